"""Classic bugs are caught, in pairs of functions and in rules of the table."""

import numpy as np
import pytest

from scratchnet import Tensor, functions, grad, no_grad, primitive, rule
from scratchnet.testing import GradientError, assert_detects, gradcheck
from tests.testing.examples import (
    BIAS,
    DATA,
    TARGET,
    WEIGHTS,
    X,
    mean_squared,
    mean_squared_gradient,
    report_of,
    sigmoid,
    softmax_vjp,
)


def detached(W):
    """The target is a constant, although it is computed with W."""
    return np.mean((DATA @ W - np.tanh(DATA @ WEIGHTS)) ** 2)


def undetached_gradient(W):
    off = 2 * (DATA @ W - np.tanh(DATA @ WEIGHTS)) / TARGET.size
    return DATA.T @ (off - off / np.cosh(DATA @ WEIGHTS) ** 2)


# name: (function, right gradient or vjp, classic bug in it, inputs)
BUGS = {
    "lost 1/N": (
        mean_squared,
        mean_squared_gradient,
        lambda W: mean_squared_gradient(W) * TARGET.size,
        (WEIGHTS,),
    ),
    "sigma for sigma (1 - sigma)": (
        sigmoid,
        lambda g, x: g * sigmoid(x) * (1 - sigmoid(x)),
        lambda g, x: g * sigmoid(x),
        (X,),
    ),
    "missing transpose": (
        lambda x, W: x @ W,
        lambda g, x, W: (g @ W.T, x.T @ g),
        lambda g, x, W: (g @ W, x.T @ g),
        (DATA, WEIGHTS),
    ),
    "missing un-broadcast": (
        lambda x, b: x + b,
        lambda g, x, b: (g, g.sum(axis=0)),
        lambda g, x, b: (g, g[0]),
        (TARGET, BIAS),
    ),
    "un-broadcast left to the caller": (
        lambda x, b: x * b,
        lambda g, x, b: (g * b, (g * x).sum(axis=0)),
        lambda g, x, b: (g * b, g * x),
        (TARGET, BIAS),
    ),
    "missing detach": (
        detached,
        lambda W: 2 * DATA.T @ (DATA @ W - np.tanh(DATA @ WEIGHTS)) / TARGET.size,
        undetached_gradient,
        (WEIGHTS,),
    ),
    "softmax without the off-diagonal": (
        functions.softmax,
        softmax_vjp,
        lambda g, x: g * functions.softmax(x) * (1 - functions.softmax(x)),
        (X,),
    ),
    "sign": (
        lambda a, b: a - b,
        lambda g, a, b: (g, -g),
        lambda g, a, b: (g, g),
        (X, X + 1),
    ),
    "one branch of a product": (
        lambda x: x * np.exp(x),
        lambda g, x: g * (1 + x) * np.exp(x),
        lambda g, x: g * np.exp(x),
        (X,),
    ),
    "gradient of the flipped condition": (
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda g, x: g * np.where(x > 0, 1, 0.1),
        lambda g, x: g * np.where(x > 0, 0.1, 1),
        (X,),
    ),
    "0.1 % in one entry": (
        np.exp,
        lambda g, x: g * np.exp(x),
        lambda g, x: g * np.exp(x) * np.where(X == X[2, 3], 1.001, 1),
        (X,),
    ),
    "0.1 % in one entry, not analytic": (
        lambda x: np.abs(x) ** 1.5,
        lambda g, x: 1.5 * g * np.sign(x) * np.abs(x) ** 0.5,
        lambda g, x: 1.5 * g * np.sign(x) * np.abs(x) ** 0.5
        * np.where(X == X[2, 3], 0.999, 1),
        (X,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("oracle", ["auto", "ridders"])
@pytest.mark.parametrize("name", BUGS)
def test_classic_bugs_in_pairs(name, oracle):
    f, right, bug, inputs = BUGS[name]
    gradcheck((f, right), inputs, oracle=oracle)
    with pytest.raises(GradientError, match="WRONG") as caught:
        gradcheck((f, bug), inputs, oracle=oracle)
    report = caught.value.report
    assert report.verdict == "wrong", report
    if "0.1 %" in name:
        assert report.index == (2, 3)
        assert report.differ == 1
    if name == "lost 1/N":
        assert f"analytic / numeric = {TARGET.size} in each" in str(report)
    if oracle == "auto":  # as in assert_detects
        with pytest.raises(AssertionError):
            assert_detects((f, bug), inputs)


@pytest.mark.parametrize(
    "name", [n for n in BUGS if n not in ("lost 1/N", "missing detach")]
)
def test_classic_bugs_in_rules_are_found_and_the_rule_is_named(name):
    f, right, bug, inputs = BUGS[name]

    def function_with(vjp):
        @primitive
        def mine(*xs):
            return f(*xs)

        def pull(i):
            def one(g, y, *xs):
                found = vjp(g, *xs)
                return found[i] if isinstance(found, tuple) else found

            return one

        # The table reads the supported arguments from a signature.
        if len(inputs) == 1:
            rule(mine, lambda g, y, x: pull(0)(g, y, x))
        else:
            rule(mine, lambda g, y, a, b: pull(0)(g, y, a, b),
                 lambda g, y, a, b: pull(1)(g, y, a, b))  # fmt: skip
        return lambda *xs: np.sum(np.tanh(mine(*xs)) * 2)

    gradcheck(function_with(right), inputs)
    if name == "un-broadcast left to the caller":
        gradcheck(function_with(bug), inputs)  # this is not a bug in a rule
        return
    report = report_of(function_with(bug), inputs)
    assert report.verdict == "wrong"
    assert report.rule.startswith("mine, argument ")


def test_a_lost_detach_in_a_graph():
    """The engine's gradient is right for the code; the pair has another function."""

    def loss(W, target):
        return np.mean((DATA @ W - target) ** 2)

    kept = lambda W: grad(lambda W: loss(W, np.tanh(DATA @ W)))(W)
    cut = lambda W: grad(lambda W: loss(W, np.tanh(DATA @ W.detach().numpy())))(
        Tensor(W, requires_grad=True)
    )
    assert report_of((detached, kept), WEIGHTS).verdict == "wrong"
    with no_grad():
        gradcheck((detached, cut), WEIGHTS)


def test_a_cut_link_in_a_graph_is_suspected():
    report = report_of(lambda x: np.sum(np.exp(x.detach() * x)), X)
    assert report.verdict == "wrong"
    assert "each function is right alone" in report.rule


def test_only_a_forward_check_finds_exp_of_log_var():
    """The gradient of the wrong model is right; the sampler's variance is not."""
    eps = np.random.default_rng(0).normal(size=(20_000, 2))
    mu, log_var = np.array([0.3, -1.0]), np.array([-2.0, 1.0])

    def right(mu, log_var):
        return mu + np.exp(log_var / 2) * eps

    def wrong(mu, log_var):
        return mu + np.exp(log_var) * eps

    for sampler in (right, wrong):
        small = lambda mu, log_var, sampler=sampler: sampler(mu, log_var)[:3]
        gradcheck(small, (mu, log_var))
    scatter = np.exp(log_var) * 4 * np.sqrt(2 / len(eps))
    assert np.all(
        np.abs(np.var(right(mu, log_var), axis=0) - np.exp(log_var)) < scatter
    )
    assert np.all(
        np.abs(np.var(wrong(mu, log_var), axis=0) - np.exp(log_var)) > scatter
    )
