"""The message: the entry, the numbers, the pattern and the rule."""

import numpy as np
import pytest

from scratchnet import Tensor, primitive, rule
from tests.testing.examples import SQUARE, X, quadratic, quadratic_gradient, report_of


def test_message_names_the_entry_the_numbers_the_pattern_and_the_rule():
    @primitive
    def scaled(W, b):
        return W * b

    row = np.ones((28, 28))
    row[17, ::2] = 1.01
    rule(scaled, lambda g, y, W, b: g * b, lambda g, y, W, b: g * W * row)
    W, b = np.random.default_rng(0).normal(size=(2, 28, 28))
    report = report_of(lambda W, b: np.sum(np.tanh(scaled(W, b))), (W, b))
    lines = str(report).splitlines()
    i, j = report.index
    assert i == 17
    assert j % 2 == 0
    assert lines[0] == f"gradcheck: WRONG  d f/d b[17, {j}]"
    assert lines[1] == f"  analytic   {report.analytic:.7g}"
    assert lines[2].startswith(
        f"  numeric    {report.numeric:.7g}  (complex step, error"
    )
    assert lines[3].startswith("  worst of 784 entries; 14 differ; they share row 17")
    assert lines[4:] == ["  rule: scaled, argument 1"]
    truth = W[17, j] / np.cosh(W[17, j] * b[17, j]) ** 2
    assert report.numeric == pytest.approx(truth, rel=1e-13)
    assert report.analytic == pytest.approx(1.01 * truth, rel=1e-13)
    assert report.error < 1e-12
    assert (report.verdict, report.ok, report.differ) == ("wrong", False, 14)
    assert (report.entries, report.oracle, report.input) == (784, "complex step", "b")
    assert not report


def test_a_bare_pair_has_no_rule_and_its_pattern_is_named():
    wrong = (quadratic, lambda x: quadratic_gradient(x) * np.where(X == X, 1.5, 1))
    report = report_of(wrong, X)
    assert "rule" not in str(report)
    assert "all of them; analytic / numeric = 1.5 in each" in str(report)
    column = np.where(np.arange(4) == 2, 0.5, 1)
    report = report_of((quadratic, lambda x: quadratic_gradient(x) * column), X)
    assert report.pattern.startswith("they share column 2")
    transposed = (lambda x: np.sum(x**3 * SQUARE), lambda x: (3 * x**2 * SQUARE).T)
    assert "transpose" in report_of(transposed, SQUARE + 3).pattern
    missing = (quadratic, lambda x: quadratic_gradient(x) * (np.arange(4) < 3))
    assert "each is 0" in report_of(missing, X).pattern


def test_a_pass_gives_the_smallest_error_that_it_would_find():
    report = report_of((quadratic, quadratic_gradient), X)
    assert report
    assert report.ok
    assert report.verdict == "pass"
    assert str(report).startswith("gradcheck: pass  d f/d (x): no entry of 20 is off")
    assert report.blind < 1e-10
    assert report.oracle == "complex step"
    assert report.calls > 0
    with pytest.raises(AttributeError):
        report.ok = False


def test_names_come_from_tensors_then_from_f_then_from_positions():
    def f(weight, *others):
        return np.sum(weight * others[0] * others[1])

    named = Tensor(SQUARE, requires_grad=True, name="layer.W")
    report = report_of(f, (SQUARE, SQUARE, named))
    assert "d f/d (weight, others[0], layer.W)" in str(report)
    report = report_of((np.hypot, lambda g, *xs: xs), (X, X))
    assert report.input in ("input 0", "x1", "x")


def test_every_wrong_input_is_named():
    pair = (lambda a, b: np.sum(a * b), lambda a, b: (2 * b, 3 * a))
    text = str(report_of(pair, (X, X)))
    assert "d f/d a[" in text
    assert "also wrong: b (20 differ)" in text
