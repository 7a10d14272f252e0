"""Functions of torch: `Function`s, modules, and the calls of its own gradcheck."""

import re

import numpy as np
import pytest

from scratchnet.testing import GradientError, gradcheck
from tests.testing.examples import report_of

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.frameworks


class Linear(torch.autograd.Function):
    """x @ w; `slip` is a factor in the gradient of w."""

    slip = 1.0

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.T, Linear.slip * x.T @ g


@pytest.fixture
def slip(monkeypatch):
    monkeypatch.setattr(Linear, "slip", 1.01)


def tensors(*shapes, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    options = {"dtype": torch.float64} | options
    made = [torch.randn(s, generator=generator, **options) for s in shapes]
    return made[0] if len(made) == 1 else tuple(made)


@pytest.mark.parametrize("f", [Linear, Linear.apply, lambda x, w: Linear.apply(x, w)])
def test_a_function_class_its_apply_and_a_call(f, slip):
    report = report_of(f, tensors((4, 3), (3, 2)))
    assert (report.verdict, report.input, report.mistake) == ("wrong", "w", "factor")
    assert str(report).startswith("gradcheck: WRONG  d sum(c * f)/d w[")
    assert re.search(r"output f\[\d, \d\]: analytic", str(report))


def test_the_calls_of_torchs_own_documentation():
    x = tensors((20, 20)).requires_grad_()
    w = tensors((30, 20), seed=1).requires_grad_()
    linear = torch.nn.functional.linear
    assert gradcheck(linear, (x, w), eps=1e-6, atol=1e-4)
    assert gradcheck(Linear.apply, (x, w.T), raise_exception=False)
    assert gradcheck(linear, (x, w), fast_mode=True, check_forward_ad=True)
    assert gradcheck(linear, [x, w], nondet_tol=1e-7, check_undefined_grad=False)
    with pytest.raises(TypeError, match="check_batched_grad=True is not supported"):
        gradcheck(linear, (x, w), check_batched_grad=True)


def test_a_wrong_gradient_raises(slip):
    with pytest.raises(GradientError, match=r"d sum\(c \* f\)/d w\["):
        gradcheck(Linear.apply, tensors((4, 3), (3, 2)))


def test_only_tensors_that_require_a_gradient_are_checked(slip):
    x, w = tensors((4, 3), (3, 2))
    report = gradcheck(Linear.apply, (x.requires_grad_(), w))
    assert report.entries == 12
    assert "not checked, since requires_grad is False: w" in str(report)


class Net(torch.nn.Module):
    """A layer, batch normalisation and a layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 2)
        self.detached = False

    def forward(self, x):
        h = torch.tanh(self.norm(self.first(x)))
        return self.last(h.detach() if self.detached else h)


def test_a_module_has_its_own_names():
    net = Net().eval()
    before = {name: p.clone() for name, p in net.state_dict().items()}
    report = gradcheck(net, torch.randn(5, 3).requires_grad_())
    names = (
        "first.weight, first.bias, norm.weight, norm.bias, last.weight, last.bias, x"
    )
    assert f"({names})" in str(report)
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    net.detached = True
    report = report_of(net, torch.randn(5, 3))
    assert (report.verdict, report.input) == ("wrong", "first.weight")
    assert "requires_grad is False: x" in str(report)


def test_a_module_in_training_mode_and_a_vacuous_bias():
    report = report_of(Net(), torch.randn(5, 3))
    assert (report.verdict, report.input) == ("vacuous", "first.bias")
    assert 'allow=["vacuous"]' in str(report)


def test_dropout_is_named():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5))
    report = report_of(net, torch.randn(5, 3))
    assert report.verdict == "nondeterministic"
    assert "dropout is active in 1: call .eval() first" in str(report)
    gradcheck(net.eval(), torch.randn(5, 3))


def test_nested_inputs_and_outputs():
    x, w = tensors((4, 3), (3, 2))

    def f(p, n):
        assert n == 2
        y = p["layers"][0]["x"] @ p["w"]
        return {"y": y * n, "all": (y.sum(), torch.arange(3), "word")}

    report = gradcheck(f, ({"layers": [{"x": x}], "w": w}, 2))
    assert "(p.layers.0.x, p.w)" in str(report)


def test_complex_tensors_by_torchs_convention():
    z = tensors(3, dtype=torch.complex128)
    report = gradcheck(lambda z: (z * z.conj()).real.sum() * z, z)
    assert "dL/da + i dL/db for z = a + ib (torch)" in str(report)

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx, g):
            (z,) = ctx.saved_tensors
            return g * 2 * z  # the conjugate is missing

    report = report_of(Square.apply, z)
    assert report.verdict == "wrong"


def test_second_order():
    class Cube(torch.autograd.Function):
        slip = 1.0

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return CubeGradient.apply(g, x)

    class CubeGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx, g, x):
            ctx.save_for_backward(g, x)
            return 3 * g * x**2

        @staticmethod
        def backward(ctx, gg):
            g, x = ctx.saved_tensors
            return 3 * gg * x**2, Cube.slip * 6 * gg * g * x

    x = tensors(5)
    gradcheck(Cube.apply, x, order=2)
    Cube.slip = 1.5
    gradcheck(Cube.apply, x)
    report = report_of(Cube.apply, x, order=2)
    assert (report.verdict, report.mistake) == ("wrong", "factor")
    assert "gradient of f" in str(report)
    gradcheck(Net().eval(), torch.randn(5, 3), order=2)


def test_forward_mode():
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, g):
            return g * torch.cos(ctx.saved_tensors[0])

        @staticmethod
        def jvp(ctx, v):
            slope = torch.cos(ctx.saved_tensors[0])
            return v * torch.where(torch.arange(len(v)) == 3, 1.01, 1.0) * slope

    x = tensors(5)
    gradcheck(Sine.apply, x)
    report = report_of(Sine.apply, x, check_forward_ad=True)
    assert report.verdict == "wrong"
    assert "forward mode: d sum(c * f)/d x[3] is" in str(report)
    gradcheck(torch.sin, x, forward=True)
    report = report_of(Linear.apply, tensors((4, 3), (3, 2)), forward=True)
    assert "forward mode raised" in str(report)


def test_float32_is_checked_in_float64_or_alone():
    x, w = tensors((4, 3), (3, 2), dtype=torch.float32)
    report = gradcheck(Linear.apply, (x, w))
    assert report.blind < 1e-4

    def kernel(x):
        assert x.dtype == torch.float32
        return torch.tanh(x)

    for options in ({}, {"dtype": np.float32}):
        report = gradcheck(kernel, x, **options)
        assert "f was called in torch.float32 only" in str(report) or (
            "f was called in float32 only" in str(report)
        )
    assert gradcheck(lambda x: torch.tanh(x * 2), x.bfloat16())


def test_in_place_functions_and_shared_memory():
    x = tensors(6)
    gradcheck(lambda x: x.mul_(2).sin_(), x)
    gradcheck(lambda a, b: (a * b).sum(), (x[:4], x[2:]))
    gradcheck(lambda a: (a * a).sum(), x[:1].expand(3))
    gradcheck(lambda x: x.T @ x, tensors((3, 4)).T)


def test_sparse_outputs_tied_weights_and_frozen_parameters():
    gradcheck(lambda x: x.to_sparse(), tensors((3, 3)))
    net = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(2)))
    net[1].weight = net[0].weight
    gradcheck(net, torch.randn(3, 4))
    net[0].bias.requires_grad_(False)
    report = gradcheck(net, torch.randn(3, 4))
    assert "requires_grad is False: 0.bias, input" in str(report)


def test_a_numpy_input_is_answered_with_the_way_to_convert():
    for f in (Linear.apply, Linear, torch.sin, lambda x: torch.sin(x), Net()):
        with pytest.raises(TypeError, match=r"pass torch.from_numpy\(x\) instead of x"):
            gradcheck(f, np.ones((5, 3)))


def test_a_large_module_takes_few_calls():
    torch.manual_seed(0)
    layers = torch.nn.Linear(1000, 1000), torch.nn.ReLU(), torch.nn.Linear(1000, 1)
    report = gradcheck(torch.nn.Sequential(*layers), torch.randn(8, 1000))
    assert report.entries > 10**6
    assert report.calls <= 300
