"""SciPy's spelling of an objective and its gradient; SciPy itself is not needed."""

import numpy as np
import pytest

from scratchnet.testing import gradcheck
from tests.testing.examples import report_of

X = np.array([0.5, -1.2, 2.0])


def test_the_value_with_its_gradient():
    def loss(w, a):
        return np.sum(a * w**3), 3 * a * w**2

    report = gradcheck(loss, X, jac=True, args=(2.0,))
    assert "d f/d (w)" in str(report)
    wrong = lambda w: (np.sum(w**3), 3 * w**2 * [1, 1, 1.001])
    report = report_of(wrong, list(X), jac=True)
    assert (report.verdict, report.input, report.index) == ("wrong", "w", (2,))


def test_a_gradient_of_its_own():
    gradcheck(lambda x, a: np.sum(np.exp(a * x)), X, jac=lambda x, a: a * np.exp(a * x),
              args=(0.5,))  # fmt: skip
    gradcheck(lambda x: [np.sum(x**2)], X, jac=lambda x: [2 * x])


def test_residuals_with_their_jacobian():
    class Sparse:
        def __init__(self, a):
            self.a = a

        def toarray(self):
            return self.a

    def residuals(x):
        return np.array([x[0] * x[1], x[2] ** 2])

    def jacobian(x):
        return np.array([[x[1], x[0], 0], [0, 0, 2 * x[2]]])

    gradcheck(residuals, X, jac=jacobian)
    gradcheck(residuals, X, jac=lambda x: Sparse(jacobian(x)))
    report = report_of(residuals, X, jac=lambda x: jacobian(x).T)
    assert "must be (2, 3)" in str(report)
    report = report_of(residuals, X, jac=lambda x: jacobian(x) * [[1], [1.1]])
    assert report.index == (2,)
    assert report.output.startswith("output f[1]")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradcheck(np.sum, X, jac="2-point"), "use True or a function"),
        (lambda: gradcheck(np.sum, X, jac=False), "use True or a function"),
        (
            lambda: gradcheck((np.sum, np.ones_like), X, args=(1,)),
            "args= goes with jac",
        ),
    ],
)
def test_misuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
