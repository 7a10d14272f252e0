"""The kernels in C against the same chain in NumPy's calls, entry by entry."""

import numpy as np
import pytest

from scratchnet import backend
from scratchnet.backend.c import C
from scratchnet.backend.philox import Stream
from scratchnet.kernels import activations, updates
from tests.backend import compiled, device
from tests.helpers import using

pytestmark = compiled.needs_compiler

both_widths = pytest.mark.parametrize("dtype", [np.float32, np.float64])


WAYS = {"for a GPU": lambda: device.use(kernels=True), "backend c": lambda: using("c")}


@pytest.fixture(params=WAYS)
def both(request):
    """Return what a function returns by NumPy's calls, and by the kernels in C."""

    def run(compute):
        found = []
        for way in (device.use, WAYS[request.param]):
            with way(), np.errstate(all="ignore"):
                found.append([np.array(backend.to_numpy(a)) for a in compute()])
        return zip(*found, strict=True)

    return run


def assert_close(pairs, dtype):
    """Compare to 8 units of rounding, absolute for numbers below 1."""
    for by_numpy, in_c in pairs:
        assert by_numpy.dtype == in_c.dtype
        limit = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(in_c, by_numpy, rtol=limit, atol=limit)


def drawn(*shape, dtype):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@both_widths
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(both, dtype, decay):
    def compute():
        p = backend.asarray(drawn(7, 5, dtype=dtype))
        adam = updates.AdamWUpdate([p], lr=0.1, weight_decay=decay)
        for k in range(4):
            adam.apply([p], [backend.asarray(np.sin(k + drawn(7, 5, dtype=dtype)))])
        return [p, *adam.state_arrays().values()]

    assert_close(both(compute), dtype)


@both_widths
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(both, dtype, momentum):
    def compute():
        p = backend.asarray(drawn(7, 5, dtype=dtype))
        sgd = updates.SGDUpdate([p], lr=0.1, momentum=momentum)
        for k in range(4):
            sgd.apply([p], [backend.asarray(np.sin(k + drawn(7, 5, dtype=dtype)))])
        return [p, *sgd.state_arrays().values()]

    assert_close(both(compute), dtype)


@both_widths
def test_a_running_average(both, dtype):
    def compute():
        p = backend.asarray(drawn(7, 5, dtype=dtype))
        ema = updates.AverageUpdate([p], 0.9)
        for _ in range(3):
            p *= 2
            ema.update()
        ema.put()
        return [p]

    assert_close(both(compute), dtype)


@both_widths
def test_moments_of_a_dead_unit_become_zero(both, dtype):
    """Denormal numbers would take a processor many times as long, for ever."""
    least = np.finfo(dtype).smallest_normal

    def compute():
        p, g = backend.asarray(np.ones(3, dtype)), backend.zeros(3, dtype)
        adam = updates.AdamUpdate([p])
        for name in ("m.0", "v.0"):
            adam.state_arrays()[name][...] = backend.asarray(
                np.array(
                    [1, 1.05 * least, -1.05 * least if name == "m.0" else 0], dtype
                )
            )
        adam.apply([p], [g])
        return [p, *adam.state_arrays().values()]

    for by_numpy, in_c in both(compute):
        normal = np.where(np.abs(by_numpy) < least, 0, by_numpy)
        np.testing.assert_allclose(in_c, normal, rtol=1e-6)


@both_widths
def test_a_row_is_added(both, dtype):
    def compute():
        a = backend.asarray(drawn(4, 3, dtype=dtype))
        activations.add_row(a, backend.asarray(np.arange(3, dtype=dtype)))
        yield a

    assert_close(both(compute), dtype)


@both_widths
@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activations(both, name, dtype):
    def compute():
        a = drawn(40, 3, dtype=dtype)
        a[:7, 0] = [0, -0.0, 200, -200, np.inf, -np.inf, np.nan]
        h, f = backend.asarray(a.copy()), activations.activation(name)
        f.forward(h, backend.empty(a.shape, dtype))
        yield h.copy()
        delta = backend.asarray(drawn(40, 3, dtype=dtype))
        f.backward(delta, h)
        yield delta
        if name in ("relu", "leaky_relu"):
            yield h  # f'
        h, b = backend.asarray(a.copy()), backend.asarray(drawn(3, dtype=dtype))
        f.layer(h, b, backend.empty(a.shape, dtype))
        yield h

    assert_close(both(compute), dtype)


@both_widths
def test_cross_entropy(both, dtype):
    """Also several draws of one target, as in the IWAE."""

    def compute():
        for shape in [(9, 4), (9, 3, 4)]:
            a = 8 * drawn(*shape, dtype=dtype)
            a.reshape(-1)[:4] = [0, 90, -90, 1e30]
            x = np.random.default_rng(1).random((9, 4)).astype(dtype)
            a, x = backend.asarray(a), backend.asarray(x)
            x = x if len(shape) == 2 else x[:, None]
            loss = backend.empty(shape[:-1], dtype)
            delta, scratch = backend.empty(shape, dtype), backend.empty(shape, dtype)
            activations.cross_entropy(a, x, loss, delta, scratch)
            yield from (a, delta, loss / 8)

    assert_close(both(compute), dtype)


@both_widths
def test_streams(both, dtype):
    def compute():
        stream = Stream(2**40 + 3)
        for _ in range(2):
            stream.begin()
            yield stream.random((5, 3), dtype)
            yield stream.standard_normal(11, dtype)
            yield stream.uniform(2.0, 3.0, (4, 1))

    assert_close(both(compute), dtype)


def test_host_arrays_are_computed_on_the_host():
    with device.use(kernels=True):
        a = np.array([0.0, np.inf])
        activations.activation("sigmoid").forward(a, a)
    assert a.tolist() == [0.5, 1.0]


def test_the_words_of_a_stream_are_the_same_bits(both):
    def compute():
        stream = Stream(2**64 - 1)
        for n in (1, 10, 2**31 + 1):
            stream.begin()
            yield stream.integers(n, size=(6, 4))

    for by_numpy, in_c in both(compute):
        np.testing.assert_array_equal(in_c, by_numpy)


def test_every_kernel_is_compared(both, monkeypatch):
    seen = set()
    run, run_in_c = compiled.run, C.run_kernel

    def noted(self, kernel, arguments):
        done = run_in_c(self, kernel, arguments)
        seen.update({kernel.name} if done else ())
        return done

    monkeypatch.setattr(compiled, "run", lambda k, a: (seen.add(k.name), run(k, a)))
    monkeypatch.setattr(C, "run_kernel", noted)
    for test, cases in {
        test_adam: [(np.float32, 0.0)], test_cross_entropy: [(np.float32,)],
        test_activations: [(f, np.float32) for f in activations.ACTIVATIONS],
        test_streams: [(np.float32,)], test_a_row_is_added: [(np.float32,)],
        test_the_words_of_a_stream_are_the_same_bits: [()],
        test_sgd: [(np.float32, momentum) for momentum in (0.0, 0.9)],
        test_a_running_average: [(np.float32,)],
    }.items():  # fmt: skip
        for case in cases:
            test(both, *case)
    # Where sums can be had, the terms alone are not needed.
    in_c = {kernel.name for kernel in compiled.ALL} - {"cross_entropy"}
    assert seen in ({kernel.name for kernel in compiled.KERNELS}, in_c)
