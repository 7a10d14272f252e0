"""The VAE and the IWAE: by hand, by the engine, and against other methods."""

import math

import numpy as np
import pytest

from scratchnet import byhand, models, nn, optim
from scratchnet.graph import plain
from scratchnet.training import fit
from tests.helpers import (
    assert_close,
    assert_every_equation_is_cited,
    assert_imports_no_engine,
    assert_no_allocation,
    assert_same_gradients,
    assert_same_weights,
    noise,
    numeric_gradients,
    rng,
    samples,
    shake,
)

SIZES = (7, 6, 5, 3)
DECODERS = ("bernoulli", "gaussian")
every_decoder = pytest.mark.parametrize("decoder", DECODERS)
every_twin = pytest.mark.parametrize("made_by", [byhand, models])
both = pytest.mark.parametrize("name", ["VAE", "IWAE"])


def hand(name="VAE", sizes=SIZES, **options):
    options = {"rng": rng(), "dtype": np.float64, "batch_size": 16} | options
    return getattr(byhand, name)(sizes, activation="tanh", **options)


def engine(name="VAE", sizes=SIZES, **options):
    options = {"rng": rng(), "dtype": np.float64} | options
    return getattr(models, name)(sizes, activation="tanh", **options)


def make(made_by, *args, **options):
    return (hand if made_by is byhand else engine)(*args, **options)


def plain_vae_loss(state, x, eps, beta, gaussian):
    """Compute the loss from the definitions, without scratchnet."""

    def net(h, part):
        W = [a for name, a in state.items() if name.startswith(part) and ".W" in name]
        b = [a for name, a in state.items() if name.startswith(part) and ".b" in name]
        for i, (w, c) in enumerate(zip(W, b, strict=True)):
            h = h @ w + c
            if i < len(W) - 1:
                h = np.tanh(h)
        return h

    h = net(x, "encoder")
    mu, sigma = h[:, : h.shape[1] // 2], np.sqrt(np.exp(h[:, h.shape[1] // 2 :]))
    a = net(mu + sigma * eps, "decoder")
    if gaussian:
        s = np.exp(state["log_var_x"] / 2)
        density = np.exp(-0.5 * ((x - a) / s) ** 2) / (s * np.sqrt(2 * np.pi))
        log_p = np.log(density).sum(axis=1)
    else:
        p = 1 / (1 + np.exp(-a))
        log_p = np.log(np.where(x == 1, p, 1 - p)).sum(axis=1)
    kl = np.sum(mu**2 / 2 + sigma**2 / 2 - 0.5 - np.log(sigma), axis=1)
    return np.mean(-log_p + beta * kl)


# --- Three ways ---------------------------------------------------------------------


@every_decoder
@pytest.mark.parametrize("beta", [1.0, 4.0, 0.0])
def test_loss_and_gradients_three_ways(decoder, beta):
    x = np.round(samples(9, 7))
    eps = noise(9, 3)
    one = hand(decoder=decoder, beta=beta)
    gradients = assert_same_gradients(one, engine(decoder=decoder, beta=beta), x, eps)
    expected = plain_vae_loss(one.state_dict(), x, eps, beta, decoder == "gaussian")
    assert float(one.loss(x, eps)) == pytest.approx(expected, rel=1e-12)
    numeric = numeric_gradients(lambda: one.forward(x, eps), one.parameters)
    for name, g in gradients.items():
        assert_close(g, numeric[name], rtol=1e-7)


@every_decoder
@pytest.mark.parametrize("k", [1, 4])
def test_iwae_loss_and_gradients_three_ways(decoder, k):
    x = samples(9, 7)
    eps = noise(9, k, 3)
    one = hand("IWAE", k=k, decoder=decoder)
    two = engine("IWAE", k=k, decoder=decoder)
    gradients = assert_same_gradients(one, two, x, eps)
    numeric = numeric_gradients(lambda: one.forward(x, eps), one.parameters)
    for name, g in gradients.items():
        assert_close(g, numeric[name], rtol=1e-7)


@every_decoder
@both
def test_the_same_weights_after_100_steps(name, decoder):
    x = samples(40, 7)
    one, two = hand(name, decoder=decoder), engine(name, decoder=decoder)
    r = rng(3)

    def batches():
        for _ in range(100):
            batch = x[r.permutation(40)[: r.integers(1, 17)]]
            yield one.with_noise(batch, rng=r)

    assert_same_weights(one, two, optim.Adam(two.parameters()), batches())


def test_iwae_of_one_draw_is_the_vae_with_an_estimated_divergence():
    # The mean over many draws of the k = 1 bound is the VAE's, whose KL is exact.
    x = samples(1, 7)
    one, two = hand("IWAE", k=1, batch_size=20_000), hand("VAE", batch_size=20_000)
    shake(one)
    two.load_state_dict(one.state_dict())
    many = np.repeat(x, 20_000, axis=0)
    eps = noise(20_000, 3)
    a = float(one.loss(many, eps[:, None]))
    b = float(two.loss(many, eps))
    assert a == pytest.approx(b, abs=0.05)


def test_more_draws_give_a_tighter_bound():
    x = samples(1, 7)
    vae = hand()
    shake(vae, 0.6)
    losses = []
    for k in (1, 5, 50):
        iwae = hand("IWAE", k=k, batch_size=400)
        iwae.load_state_dict(vae.state_dict())
        losses.append(float(iwae.loss(np.repeat(x, 400, axis=0), noise(400, k, 3))))
    assert losses[0] > losses[1] > losses[2]


# --- Forward oracles ----------------------------------------------------------------


@every_twin
def test_draws_of_z_have_the_variance_exp_log_var(made_by):
    # A gradient check cannot see this: sigma = exp(log_var) would pass.
    n = 100_000
    model = make(made_by, sizes=(2, 2, 1), decoder="gaussian")
    state = model.state_dict()
    for a in state.values():
        a[...] = 0
    state["encoder.2.b"][...] = [0.5, math.log(0.09)]  # mu and log_var of every x
    state["decoder.0.W"][...] = 1e-4  # where tanh is the identity
    state["decoder.2.W"][...] = 1 / 2e-4
    model.load_state_dict(state)
    x = np.zeros((n, 2))
    # Loss = 1/2 Σ (z - 0)² + log 2π + KL, so E[loss] knows E z² = mu² + sigma².
    kl = 0.5 * (0.25 + 0.09 - 1 - math.log(0.09))
    loss = float(plain(model.loss(x, noise(n, 1))))
    mean_square = loss - kl - math.log(2 * math.pi)
    assert mean_square == pytest.approx(0.25 + 0.09, abs=0.004)


@every_twin
def test_elbo_terms_against_quadrature_and_monte_carlo(made_by):
    model = make(made_by)
    shake(model)
    x = np.round(samples(2, 7))
    mu, log_var = model.posterior(x)
    _, kl = model.elbo_terms(x, rng(1))
    # KL by quadrature, column by column, of the two densities.
    for i in range(2):
        total = 0.0
        for m, v in zip(mu[i], log_var[i], strict=True):
            s = math.exp(v / 2)
            t = np.linspace(m - 12 * s, m + 12 * s, 20_001)
            q = np.exp(-0.5 * ((t - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
            log_ratio = -0.5 * ((t - m) / s) ** 2 - math.log(s) + 0.5 * t**2
            total += np.sum(q * log_ratio) * (t[1] - t[0])
        assert kl[i] == pytest.approx(total, rel=1e-9)
    draws = 40_000
    z = mu[0] + np.exp(log_var[0] / 2) * noise(draws, 3)
    estimate = np.mean(np.sum(
        -0.5 * ((z - mu[0]) ** 2 / np.exp(log_var[0]) + log_var[0]) + 0.5 * z**2, axis=1
    ))  # fmt: skip
    assert estimate == pytest.approx(kl[0], abs=0.05)


@every_decoder
@every_twin
def test_log_likelihood_against_quadrature(made_by, decoder):
    # For a code of one number the integral over z is computable.
    model = make(made_by, sizes=(4, 5, 1), decoder=decoder)
    shake(model)
    state = model.state_dict()
    state["encoder.2.b"][1] += (
        1.5  # q is wider than p(z | x), so that no weight is huge
    )
    model.load_state_dict(state)
    x = np.round(samples(3, 4))
    z = np.linspace(-10, 10, 4001)[:, None]
    prior = np.exp(-0.5 * z[:, 0] ** 2) / math.sqrt(2 * math.pi)
    exact = []
    for row in x:
        log_p = model.log_p_x(np.repeat(row[None], len(z), axis=0), z)
        exact.append(math.log(np.sum(np.exp(log_p) * prior) * 0.005))
    estimate = model.log_likelihood(x, rng(1), k=100_000)
    assert estimate == pytest.approx(exact, abs=0.02)
    # The bound is lower on average over draws, and k = 1 gives that bound.
    many = np.repeat(x, 3000, axis=0)
    bound = model.elbo(many, rng(2)).reshape(3, 3000).mean(axis=1)
    assert (bound < exact).all()
    one = model.log_likelihood(many, rng(3), k=1).reshape(3, 3000).mean(axis=1)
    assert one == pytest.approx(bound, abs=0.15)
    middle = model.log_likelihood(many, rng(4), k=8).reshape(3, 3000).mean(axis=1)
    assert (one < middle).all()


@every_twin
def test_log_p_x_against_the_definitions(made_by):
    z, x = noise(6, 3), samples(6, 7)
    model = make(made_by)
    p = model.decode(z)
    expected = np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=1)
    assert model.log_p_x(x, z) == pytest.approx(expected, rel=1e-12)
    model = make(made_by, decoder="gaussian")
    shake(model)
    sigma = math.exp(model.state_dict()["log_var_x"][0] / 2)
    error = (x - model.decode(z)) / sigma
    constant = math.log(sigma * math.sqrt(2 * math.pi))
    expected = np.sum(-0.5 * error**2 - constant, axis=1)
    assert model.log_p_x(x, z) == pytest.approx(expected, rel=1e-12)


def test_a_gaussian_decoder_learns_the_variance_of_its_errors():
    # The data are pure noise: nothing can be encoded, and e^λ is their variance.
    x = 0.5 * noise(512, 4)
    model = hand(sizes=(4, 8, 1), decoder="gaussian", batch_size=64,
                 lr=0.01)  # fmt: skip
    fit(model, x, epochs=100, batch_size=64, rng=rng(), noise=rng(1), progress=False)
    assert np.exp(model.parameters["log_var_x"][0]) == pytest.approx(0.25, rel=0.15)


# --- Shared behaviour ---------------------------------------------------------------


@every_decoder
def test_both_twins_give_equal_results_and_exchange_states(decoder):
    x = samples(40, 7)
    one, two = hand(decoder=decoder), engine(decoder=decoder, rng=rng(5))
    shake(one)
    two.load_state_dict(one.state_dict())
    for a, b in zip(one.posterior(x), two.posterior(x), strict=True):
        assert a.shape == (40, 3)
        assert_close(a, b, rtol=1e-13)
    assert_close(one.encode(x), one.posterior(x)[0], rtol=1e-15)
    z = noise(40, 3)
    assert_close(one.decode(z), two.decode(z), rtol=1e-13)
    assert_close(one.reconstruct(x), two.decode(two.encode(x)), rtol=1e-13)
    assert_close(one.sample(5, rng(1)), two.sample(5, rng(1)), rtol=1e-13)
    assert_close(one.elbo(x, rng(1)), two.elbo(x, rng(1)), rtol=1e-13)
    assert (one.sample(5, rng(1)) != one.sample(5, rng(2))).any()
    assert one.sample(50, rng(1)).shape == (50, 7)
    three = hand(decoder=decoder, rng=rng(6))
    three.load_state_dict(two.state_dict())
    np.testing.assert_array_equal(three.theta, one.theta)


@both
@every_decoder
def test_float32_stays_float32(name, decoder):
    x = samples(9, 7, np.float32)
    for model in (
        hand(name, decoder=decoder, dtype=np.float32),
        engine(name, decoder=decoder, dtype=np.float32),
    ):
        batch = model.with_noise(x, rng=rng(1))
        assert {a.dtype for a in batch} == {np.dtype(np.float32)}
        assert model.encode(x).dtype == model.sample(3, rng()).dtype == np.float32
        loss = model.loss(*batch)
        if isinstance(model, nn.Module):
            assert loss.dtype == np.float32
            loss.backward()
            assert {p.grad.dtype.name for p in model.parameters()} == {"float32"}
        else:
            assert model.step(*batch).dtype == np.float32


@every_decoder
@both
def test_a_step_allocates_no_array(name, decoder):
    # mu and log_var are halves of one matrix, so NumPy buffers the three arguments of
    # their calls. All arrays of a step are larger than these buffers.
    sizes, n = (250, 245, 240), 128
    x = samples(n, sizes[0], np.float32)
    options = {"k": 2} if name == "IWAE" else {}
    model = hand(
        name, sizes, decoder=decoder, dtype=np.float32, batch_size=n, **options
    )
    batch = model.with_noise(x, rng=rng(1))
    limit = 3 * 8192 * 4 + 12_000
    assert model._z.nbytes > limit
    assert_no_allocation(lambda: model.step(*batch), limit)


@pytest.mark.parametrize("cls", [byhand.VAE, byhand.IWAE])
def test_the_derivation_is_complete(cls):
    assert_imports_no_engine(cls)
    elsewhere = {"VAE": ["17"], "IWAE": ["7", "9", "10", "10'", "17", "23"]}
    assert_every_equation_is_cited(cls, elsewhere[cls.__name__])


# --- Errors -------------------------------------------------------------------------


@every_twin
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (7,)}, r"VAE: sizes is \(7,\)"),
        ({"decoder": "poisson"}, "VAE: decoder is 'poisson'; one of"),
        ({"beta": -1.0}, "VAE: beta is -1.0; at least 0"),
    ],
)
def test_wrong_arguments_are_named(made_by, options, message):
    with pytest.raises(ValueError, match=message):
        make(made_by, **options)


@every_twin
def test_wrong_data_are_named(made_by):
    model = make(made_by)
    x = samples(4, 7)
    for eps, error, message in [
        (noise(4, 2), ValueError, r"VAE: eps has shape \(4, 2\); \(4, 3\) expected"),
        (noise(4, 3, dtype=np.float32), TypeError, "VAE: eps is float32, the model"),
    ]:
        with pytest.raises(error, match=message):
            model.loss(x, eps)
    with pytest.raises(ValueError, match=r"x\[0, 1\] is 2.0; values in"):
        model.check(np.array([[0, 2.0, 0, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="sample: n is 0"):
        model.sample(0, rng())
    with pytest.raises(TypeError, match="rng is 3; a np"):
        model.sample(2, 3)
    with pytest.raises(ValueError, match="k is 0"):
        model.log_likelihood(x, rng(), k=0)
    with pytest.raises(ValueError, match="IWAE: the importance-weighted bound has no"):
        make(made_by, "IWAE", beta=2.0)
    with pytest.raises(ValueError, match="IWAE: k is 0"):
        make(made_by, "IWAE", k=0)


def test_the_loss_refuses_batches_of_different_lengths():
    x = samples(16, 7)
    model = byhand.VAE((7, 5, 3), rng=rng(), batch_size=16, dtype=np.float64)
    with pytest.raises(
        ValueError, match=r"eps has shape \(99, 3\); \(16, 3\) expected"
    ):
        model.loss(x, noise(99, 3))
