"""On a GPU: every operation of a step against float64, replays against steps.

    python -m pytest -m gpu

Without a GPU, the same tests run on the stand-in of device.py. This tests the tests,
not a GPU; with `-m gpu` they are reported as skipped.
"""

import contextlib

import numpy as np
import pytest

from scratchnet import backend, byhand
from scratchnet.backend.philox import Stream
from scratchnet.kernels import activations, buffers, schedules
from tests.backend import device
from tests.backend.test_device import every_run
from tests.helpers import rng

# The rounding of a factor: half a unit in the last place, or cut off to 11 digits.
FLOAT32, TF32 = 2**-24, 2**-10


@pytest.fixture(params=["stand-in", *(pytest.param(name, marks=pytest.mark.gpu)
                                      for name in ("cupy", "cupy-tf32"))])  # fmt: skip
def place(request):
    """Run the test on this backend."""
    if request.param == "stand-in":
        with device.use():
            yield request.param
        return
    try:
        backend.use(request.param)
    except backend.BackendError as error:
        pytest.skip(f"not run: {error}")
    yield request.param
    backend.use("numpy")


def unit(place):
    return TF32 if place == "cupy-tf32" else FLOAT32


def poison(*arrays):
    """Fill the arrays that a step must write with NaN."""
    for a in arrays:
        a[...] = np.nan


def buffers_of(system):
    """Return the arrays of a system that a step writes before it reads them."""
    nets = [part for part in vars(system).values() if isinstance(part, byhand.mlp.MLP)]
    found = [a for net in nets for a in (*net._h[1:], *net._delta) if a is not None]
    own = [a for name, a in vars(system).items() if name[0] == "_" and name != "_lam"]
    return found + [a for a in own if hasattr(a, "shape")] + [*gradients(system)]


def gradients(system):
    flat = ("d_theta", "d_theta_g", "d_theta_d")
    return [getattr(system, name) for name in flat if hasattr(system, name)]


# --- Operations ---------------------------------------------------------------------

ODD = [(1, 1, 1), (3, 5, 7), (33, 65, 17), (129, 1, 31), (127, 511, 3)]


@pytest.mark.parametrize("shape", ODD)
@pytest.mark.parametrize("turned", ["", "a", "b"])
def test_products(place, shape, turned):
    """Factors as they are and transposed, into an output of NaN."""
    m, k, n = shape
    a, b = rng(0).normal(size=(m, k)), rng(1).normal(size=(k, n))
    exact = a @ b
    bound = np.abs(a) @ np.abs(b)
    one, two = (np.asarray(x, np.float32) for x in (a, b))
    first = backend.asarray(np.ascontiguousarray(one.T)).T if turned == "a" else one
    second = backend.asarray(np.ascontiguousarray(two.T)).T if turned == "b" else two
    out = backend.empty((m, n), np.float32)
    poison(out)
    backend.matmul(backend.asarray(first), backend.asarray(second), out)
    error = np.abs(backend.to_numpy(out) - exact)
    # Two factors are rounded, and k sums of products.
    assert (error <= (2 * unit(place) + k * FLOAT32) * bound + 1e-30).all()


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (129, 65)])
def test_activations(place, name, shape):
    a, g = rng(0).normal(size=shape) * 3, rng(1).normal(size=shape)
    f = activations.activation(name)

    def both(dtype, make):
        h, delta = make(a.astype(dtype)), make(g.astype(dtype))
        f.forward(h, make(np.empty(shape, dtype)))
        value = np.array(backend.to_numpy(h))
        f.backward(delta, h)
        return value, backend.to_numpy(delta)

    found = both(np.float32, lambda x: backend.asarray(x.copy()))
    with on_the_host():
        exact = both(np.float64, np.copy)
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=4e-6, atol=4e-6)


@contextlib.contextmanager
def on_the_host():
    """Compute with NumPy, as a reference."""
    library = backend._library
    backend._library = backend.numpy.NumPy()
    try:
        yield
    finally:
        backend._library = library


SYSTEMS = {
    "autoencoder": (byhand.Autoencoder, {}),
    "cross-entropy": (byhand.Autoencoder, {"loss": "cross_entropy"}),
    "sigmoid": (byhand.Autoencoder, {"activation": "sigmoid", "active_code": True}),
    "tanh": (byhand.Autoencoder, {"activation": "tanh", "output": "linear"}),
    "VAE": (byhand.VAE, {}),
    "Gaussian VAE": (byhand.VAE, {"decoder": "gaussian"}),
    "IWAE": (byhand.IWAE, {"k": 3}),
    "Gaussian IWAE": (byhand.IWAE, {"k": 3, "decoder": "gaussian"}),
}


@pytest.mark.parametrize("rows", [1, 7, 33])
@pytest.mark.parametrize("name", SYSTEMS)
def test_gradients(place, name, rows):
    """Every system in float32, on odd shapes, against float64 on the host."""
    kind, options = SYSTEMS[name]
    x = rng(2).random((rows, 37))

    def found(dtype):
        system = kind((37, 19, 11, 3), rng=rng(0), batch_size=40, dtype=dtype,
                      **options)  # fmt: skip
        poison(*buffers_of(system))
        batch = [x]
        if hasattr(system, "with_noise"):
            draws = (3,) if kind is byhand.IWAE else ()
            batch.append(rng(5).standard_normal((rows, *draws, 3)))
        batch = [backend.asarray(a.astype(dtype)) for a in batch]
        loss, gradients = system.loss_and_gradients(*batch)
        return {"loss": np.array(loss), **gradients}

    assert_close(found, place)


@pytest.mark.parametrize("objective", ["saturating", "non_saturating", "relativistic"])
@pytest.mark.parametrize("rows", [2, 34])
def test_gradients_of_a_gan(place, objective, rows):
    x, z = rng(2).random((rows, 37)), rng(3).normal(size=(rows, 5))

    def found(dtype):
        gan = byhand.GAN(
            (5, 19, 37), (74, 23, 13, 1), rng=rng(0), batch_size=40, dtype=dtype,
            objective=objective, r1=1.0, r2=0.5, packing=2,
        )  # fmt: skip
        poison(*buffers_of(gan))
        real, noise = (backend.asarray(a.astype(dtype)) for a in (x, z))
        made = {
            "D": np.array(backend.to_numpy(gan.discriminator_gradients(real, noise)))
        }
        made["G"] = np.array(backend.to_numpy(gan.generator_gradients(noise, real)))
        return made | buffers.copy_state(gan.gradients)

    assert_close(found, place)


def assert_close(found, place):
    """Compare what `found(dtype)` returns with float64 on the host, array by array."""
    here = found(np.float32)
    with on_the_host():
        exact = found(np.float64)
    assert list(here) == list(exact)
    largest = max(map(np.linalg.norm, exact.values()))
    for name, a in exact.items():
        # Some are exactly zero: sums of terms as large as those of the others.
        size = max(np.linalg.norm(a), 1e-2 * largest)
        error = np.linalg.norm(here[name] - a) / size
        # A NaN would fail, so everything was written. Errors add up over the layers.
        limit = 2e-2 if place == "cupy-tf32" else 2.5e-5
        assert error < limit, f"{name}: {error:.1e}"


# --- Steps --------------------------------------------------------------------------


@every_run
def test_runs_from_the_same_noise(place, run, name):
    """About 12 steps of all systems in float64, by replays, against the host's."""
    there, history, _ = run("hand", name)
    with on_the_host(), device.the_host_alike():
        here, record, _ = run("hand", name)
    limit = 1e-3 if place == "cupy-tf32" else 1e-7
    for key, a in here.items():
        np.testing.assert_allclose(there[key], a, rtol=limit, atol=limit)
    for key in set(history) - {"seconds"}:
        np.testing.assert_allclose(record[key], history[key], rtol=limit)


def test_fifty_steps(place):
    """A VAE of usual size in float32, on the device and on the host."""
    x = rng(1).random((64, 784), dtype=np.float32)

    def losses():
        vae = byhand.VAE((784, 200, 20), rng=rng(0), batch_size=64)
        stream, batch = Stream(7), backend.asarray(x)
        for _ in range(50):
            stream.begin()
            eps = stream.standard_normal((64, 20), np.float32)
            yield float(backend.to_numpy(vae.step(batch, eps)))

    found = list(losses())
    with on_the_host():
        exact = list(losses())
    limit = 1e-2 if place == "cupy-tf32" else 1e-4
    np.testing.assert_allclose(found, exact, rtol=limit)


@pytest.mark.parametrize("name", [*SYSTEMS, "GAN"])
def test_replays_are_the_steps_bit_for_bit(place, name):
    """10,000 replays on a GPU, while other arrays come and go, and as many steps."""
    steps = 30 if place == "stand-in" else 10_000

    def run(recorded):
        stream = Stream(3)
        x = backend.asarray(rng(2).random((33, 37), dtype=np.float32))
        rate = schedules.cosine_decay(1e-3, 2 * steps)
        options = {"rng": rng(0), "batch_size": 33, "lr": rate}
        if name == "GAN":
            system = byhand.GAN((5, 19, 37), (37, 23, 1), r1=1.0, **options)

            def step():
                stream.begin()
                z = stream.standard_normal((33, 5), np.float32)
                system.discriminator_step(x, z)
        else:
            kind, more = SYSTEMS[name]
            system = kind((37, 19, 11, 3), **options, **more)
            draw = getattr(system, "with_noise", lambda x, rng: (x,))

            def step():
                stream.begin()
                system.step(*draw(x, rng=stream))

        take = backend.capture(step) if recorded else step
        churned = []
        for i in range(steps):
            take()
            if recorded and i % 7 == 0:
                churned = [*churned[-5:], backend.zeros(1 + 977 * (i % 13))]
                churned[-1][...] = np.nan
        return backend.to_numpy(getattr(system, "theta_d", getattr(system, "theta", 0)))

    by_replays, by_steps = run(True), run(False)
    assert np.isfinite(by_steps).all()
    np.testing.assert_array_equal(by_replays, by_steps)
