"""Pairs and functions of Tensors: nested inputs, several outputs, complex numbers."""

import re

import numpy as np
import pytest

from scratchnet.testing import gradcheck
from tests.testing.examples import report_of

R = np.random.default_rng(0)
P = {
    "encoder": [{"W": R.normal(size=(3, 2)), "b": R.normal(size=2)}],
    "scale": np.array(1.5),
}
X = R.normal(size=(4, 3))


def f(p, x):
    layer = p["encoder"][0]
    return p["scale"] * np.tanh(x @ layer["W"] + layer["b"])


def vjp(g, p, x):
    layer = p["encoder"][0]
    h = np.tanh(x @ layer["W"] + layer["b"])
    delta = g * p["scale"] * (1 - h * h)
    dW, db = x.T @ delta, delta.sum(axis=0)
    return {"scale": np.sum(g * h), "encoder": [{"b": db, "W": dW}]}, delta @ layer[
        "W"
    ].T


def test_a_nested_pair_is_checked_and_an_entry_named_by_its_path():
    report = gradcheck((f, vjp), (P, X))
    assert report.entries == 6 + 2 + 1 + 12
    assert "(p.encoder.0.W, p.encoder.0.b, p.scale, x)" in str(report)

    def wrong(g, p, x):
        dp, dx = vjp(g, p, x)
        dp["encoder"][0]["W"][2, 1] *= 1.001
        return dp, dx

    report = report_of((f, wrong), (P, X))
    assert (report.verdict, report.input) == ("wrong", "p.encoder.0.W")
    assert report.index == (2, 1)


def test_functions_of_tensors_take_the_same_trees():
    report = gradcheck(f, (P, X))
    assert report.entries == 21
    assert gradcheck(lambda p: {"y": f(p, X), "n": np.sum(p["scale"])}, P)


def test_outputs_may_be_a_tree():
    def two(x):
        return {"loss": np.sum(x**2), "parts": (x**3, "a word", np.arange(3))}

    def right(g, x):
        assert g["parts"][1] is None
        return 2 * x * g["loss"] + 3 * x**2 * g["parts"][0]

    gradcheck((two, right), X)
    report = report_of((two, lambda g, x: right(g, x) - 0.1 * g["loss"]), X)
    assert report.verdict == "wrong"
    assert report.output.startswith("output f.loss: ")


def test_a_wrong_output_is_named():
    def vjp(g, x):
        return 2 * x * g * np.where(np.arange(12).reshape(4, 3) == 7, 1.01, 1)

    report = report_of((np.square, vjp), X)
    assert report.index == (2, 1)
    assert report.output.startswith("output f[2, 1]: analytic ")
    claimed, measured = map(float, re.findall(r"ic (-?[\d.]+)", report.output))
    assert claimed == pytest.approx(1.01 * measured, rel=1e-5)
    assert measured == pytest.approx(2 * X[2, 1], rel=1e-5)


def test_a_gradient_with_another_structure_is_refused():
    report = report_of((f, lambda g, p, x: ({"scale": 1.0}, x)), (P, X))
    assert report.verdict == "wrong"
    assert "the gradient of p must be a dict with encoder, scale" in str(report)


def test_complex_inputs_are_two_real_ones_by_the_convention_named():
    z = np.array([1 + 2j, 0.3 - 1j])
    f = lambda z: np.sum(np.abs(z) ** 2)
    report = gradcheck((f, lambda z: 2 * z), z)
    assert "complex gradients: dL/da + i dL/db for z = a + ib" in str(report)
    report = report_of((f, lambda z: 2 * z.conj()), z)
    assert (report.verdict, report.input) == ("wrong", "z.imag")


def test_complex_outputs_have_complex_cotangents():
    z = np.array([1 + 2j, 0.3 - 1j])
    gradcheck((lambda z: z**2, lambda g, z: g * (2 * z).conj()), z)
    assert report_of((lambda z: z**2, lambda g, z: g * 2 * z), z).verdict == "wrong"


def test_a_function_may_write_into_its_inputs():
    def in_place(x):
        x *= 2
        return np.sin(x)

    x = np.random.default_rng(2).normal(size=3)
    before = x.copy()
    gradcheck((in_place, lambda g, x: 2 * g * np.cos(2 * x)), x)
    slope = lambda g, p: {"x": 2 * g * np.cos(2 * p["x"])}
    gradcheck((lambda p: in_place(p["x"]), slope), {"x": x})
    np.testing.assert_array_equal(x, before)


def test_inputs_may_share_memory():
    x = np.random.default_rng(2).normal(size=3)
    gradcheck((lambda a, b: np.sum(a * b), lambda a, b: (b, a)), (x, x))
    gradcheck((lambda a, b: np.sum(a * b[0]), lambda a, b: (b[0], a[None])),
              (x, x[None]))  # fmt: skip
