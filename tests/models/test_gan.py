"""The GAN twice: both updates by hand, by the engine, and by differences."""

import itertools
import math

import numpy as np
import pytest

from scratchnet import Tensor, byhand, models, optim, twins
from scratchnet.training import fit, fit_gan
from tests.helpers import (
    assert_close,
    assert_every_equation_is_cited,
    assert_imports_no_engine,
    assert_no_allocation,
    assert_same_state,
    noise,
    numeric_gradients,
    rng,
    shake,
)

OBJECTIVES = twins.OBJECTIVES
every_twin = pytest.mark.parametrize("made_by", [byhand, models])
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)
# r1, r2, packing
PARTS = [(0, 0, 1), (0.7, 0, 1), (0, 0.3, 1), (0.7, 0.3, 1), (0, 0, 3), (0.7, 0.3, 3)]
every_part = pytest.mark.parametrize(("r1", "r2", "packing"), PARTS)


def sizes(packing=1):
    return {"generator": (3, 7, 6, 2), "discriminator": (2 * packing, 8, 5, 1)}


def hand(packing=1, **options):
    options = {"rng": rng(), "dtype": np.float64, "batch_size": 12} | options
    return byhand.GAN(packing=packing, **(sizes(packing) | options))


def engine(packing=1, **options):
    options = {"rng": rng(), "dtype": np.float64} | options
    return models.GAN(packing=packing, **(sizes(packing) | options))


def make(made_by, **options):
    return hand(**options) if made_by is byhand else engine(**options)


def data(n=12):
    """Draw real samples (n, 2), and noise (n, 3)."""
    return 0.5 + rng(1).random((n, 2)), noise(n, 3)


def part(gan, name):
    """Return copies of a by-hand GAN's gradients for one network."""
    return {k: g.copy() for k, g in gan.gradients.items() if k.startswith(name)}


def plain_losses(state, x, z, objective, packing, output):
    """Compute V and both losses from the definitions, without scratchnet."""

    def net(h, name):
        layers = sorted({k.split(".")[1] for k in state if k.startswith(name)}, key=int)
        for i in layers:
            h = h @ state[f"{name}.{i}.W"] + state[f"{name}.{i}.b"]
            if i != layers[-1]:
                h = np.where(h > 0, h, 0.2 * h)
        return h

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    f = {"linear": lambda a: a, "sigmoid": sigmoid, "tanh": np.tanh}[output]
    fake = f(net(z, "generator"))
    a_r, a_f = (net(s.reshape(len(s) // packing, -1), "discriminator")
                for s in (x, fake))  # fmt: skip
    v = np.mean(np.log(sigmoid(a_r))) + np.mean(np.log(1 - sigmoid(a_f)))
    if objective == "relativistic":
        return -np.mean(np.log(sigmoid(a_r - a_f))), -np.mean(
            np.log(sigmoid(a_f - a_r))
        )
    if objective == "saturating":
        return -v, np.mean(np.log(1 - sigmoid(a_f)))
    return -v, -np.mean(np.log(sigmoid(a_f)))


# --- Three ways ---------------------------------------------------------------------


@every_objective
def test_fewer_rows_than_the_buffers_have(objective):
    options = {"objective": objective, "r1": 1.0, "r2": 0.5, "packing": 2}
    x, z = data(6)  # the buffers have 12 rows
    one, two = hand(**options), engine(**options)
    two.load_state_dict(one.state_dict())
    value = float(one.discriminator_gradients(x, z))
    assert value == pytest.approx(two.discriminator_loss(x, z).item(), rel=1e-13)
    of_d = {k: g.copy() for k, g in part(one, "discriminator").items()}
    value = float(one.generator_gradients(z, x))
    assert value == pytest.approx(two.generator_loss(z, x).item(), rel=1e-13)
    for name, g in part(one, "discriminator").items():  # G's step does not change D
        np.testing.assert_array_equal(g, of_d[name])


@every_objective
@every_part
def test_losses_and_gradients_three_ways(objective, r1, r2, packing):
    """Each objective meets each output twice, each part meets each output once."""
    x, z = data()
    place = OBJECTIVES.index(objective) + PARTS.index((r1, r2, packing))
    output = ("linear", "sigmoid", "tanh")[place % 3]
    options = {"objective": objective, "r1": r1, "r2": r2, "packing": packing}
    one, two = hand(output=output, **options), engine(output=output, **options)
    shake(one)
    two.load_state_dict(one.state_dict())
    expected = plain_losses(one.state_dict(), x, z, objective, packing, output)

    value = float(one.discriminator_gradients(x, z))
    if not (r1 or r2):
        assert value == pytest.approx(expected[0], rel=1e-12)
    recorded = two.discriminator_loss(x, z)
    recorded.backward()
    assert value == pytest.approx(recorded.item(), rel=1e-13)
    gradients = part(one, "discriminator")
    assert all(p.grad is None for p in two.generator.parameters())
    if objective == "relativistic":  # only differences of logits matter
        assert abs(gradients.pop("discriminator.4.b")[0]) < 1e-16
        assert abs(two.discriminator[4].b.grad[0]) < 1e-16
    for name, p in two.discriminator.named_parameters():
        if f"discriminator.{name}" in gradients:
            assert_close(gradients[f"discriminator.{name}"], p.grad, rtol=1e-12)
    numeric = numeric_gradients(
        lambda: one.discriminator_gradients(x, z),
        {k: one.parameters[k] for k in gradients},
    )
    for name, g in gradients.items():
        assert_close(g, numeric[name], rtol=3e-7)

    value = float(one.generator_gradients(z, x))
    assert value == pytest.approx(expected[1], rel=1e-12)
    two.zero_grad()
    recorded = two.generator_loss(z, x)
    recorded.backward()
    assert value == pytest.approx(recorded.item(), rel=1e-13)
    gradients = part(one, "generator")
    for name, p in two.generator.named_parameters():
        assert_close(gradients[f"generator.{name}"], p.grad, rtol=1e-12)
    numeric = numeric_gradients(
        lambda: one.generator_gradients(z, x), {k: one.parameters[k] for k in gradients}
    )
    for name, g in gradients.items():
        assert_close(g, numeric[name], rtol=3e-7)


@every_objective
@every_part
def test_the_same_weights_after_many_steps(objective, r1, r2, packing):
    steps = 100 if (r1, r2, packing) == PARTS[-1] else 20
    x = 0.5 + rng(1).random((40, 2))
    options = {"objective": objective, "r1": r1, "r2": r2, "packing": packing}
    one, two = hand(**options), engine(**options)
    start = one.state_dict()
    for name, a in two.state_dict().items():
        np.testing.assert_array_equal(a, start[name])
    for gan, optimizers in (
        (one, None),
        (
            two,
            (
                optim.Adam(two.generator.parameters()),
                optim.Adam(two.discriminator.parameters()),
            ),
        ),
    ):
        history = fit_gan(
            gan, x, steps=steps, batch_size=12, rng=rng(4), noise=rng(5), every=7,
            discriminator_steps=2, optimizers=optimizers, progress=False,
        )  # fmt: skip
        assert history.steps == [*range(7, steps, 7), steps]
    still = {"discriminator.4.b"} if objective == "relativistic" else set()
    assert_same_state(one, two, start, still)


def test_r1_against_the_input_gradient_by_differences():
    x, z = data()
    gan = hand()
    shake(gan)
    total = 0.0
    for i in np.ndindex(x.shape):
        ends = []
        for h in (1e-6, -1e-6):
            moved = x.copy()
            moved[i] += h
            ends.append(gan.logits(moved)[i[0], 0])
        total += ((ends[0] - ends[1]) / 2e-6) ** 2
    without = float(gan.discriminator_gradients(x, z))
    gan.r1, gan.r2 = 0.0, 0.0
    penalised = hand(r1=0.7)
    penalised.load_state_dict(gan.state_dict())
    difference = float(penalised.discriminator_gradients(x, z)) - without
    assert difference == pytest.approx(0.7 / 2 * total / 12, rel=1e-7)


# --- Claims of the lecture ----------------------------------------------------------


def certain(gan, a):
    """Make D's logit `a` everywhere."""
    state = gan.state_dict()
    for name, value in state.items():
        if name.startswith("discriminator"):
            value[...] = 0
    state["discriminator.4.b"][...] = a
    gan.load_state_dict(state)


@every_twin
def test_v_is_minus_log_4_where_d_is_one_half_everywhere(made_by):
    x, z = data()
    gan = make(made_by, objective="saturating")
    certain(gan, 0.0)
    loss = (
        gan.discriminator_gradients if made_by is byhand else gan.discriminator_loss
    )(x, z)
    assert float(getattr(loss, "data", loss) if made_by is models else loss) == (
        pytest.approx(math.log(4), rel=1e-12)
    )
    assert gan.discriminate(x) == pytest.approx(np.full((12, 1), 0.5))


def test_d_goes_up_v_and_g_goes_down():
    x, z = data()
    gan = hand(objective="saturating", update="sgd", lr=0.01)
    shake(gan)
    v = -float(gan.discriminator_gradients(x, z))
    gan.discriminator_step(x, z)
    after = -float(gan.discriminator_gradients(x, z))
    assert after > v
    gan.generator_step(z)
    assert -float(gan.discriminator_gradients(x, z)) < after


def test_the_first_term_of_v_does_not_contain_g():
    x, z = data()
    gan = hand(objective="saturating")
    shake(gan)
    gan.generator_gradients(z)
    gradients = part(gan, "generator")
    # V in full, both terms, moved by every parameter of G.
    numeric = numeric_gradients(
        lambda: -gan.discriminator_gradients(x, z),
        {k: gan.parameters[k] for k in gradients},
    )
    for name, g in gradients.items():
        assert_close(g, numeric[name], rtol=3e-7)


def test_a_sure_discriminator_leaves_the_saturating_gradient_and_no_other_vanishing():
    _, z = data()
    size = {}
    for objective in OBJECTIVES[:2]:
        for a in (0.0, -12.0):
            gan = hand(objective=objective)
            shake(gan)
            state = gan.state_dict()
            state["discriminator.4.b"][...] += a
            gan.load_state_dict(state)
            gan.generator_gradients(z)
            size[objective, a] = np.linalg.norm(gan.d_theta_g)
    saturating, other = OBJECTIVES[:2]
    assert size[saturating, -12.0] < 1e-3 * size[saturating, 0.0]
    assert size[other, -12.0] > size[other, 0.0]


@pytest.mark.parametrize("shift", [1.0, 0.0])
def test_the_best_discriminator_of_two_gaussians_is_p_over_p_plus_q(shift):
    # Goodfellow et al. 2014, proposition 1 and theorem 1. G makes N(shift, 1) and data
    # are N(0, 1): D* = p/(p + q) has the logit shift²/2 − shift·x, which is linear. If
    # there is no shift it is 1/2 everywhere, and V is −log 4.
    gan = byhand.GAN(
        (1, 1), (1, 1), rng=rng(), batch_size=4096, dtype=np.float64, output="linear",
        lr=0.01,
    )  # fmt: skip
    state = gan.state_dict()
    state["generator.0.W"][...] = 1
    state["generator.0.b"][...] = shift
    gan.load_state_dict(state)
    r = rng(3)
    v = []
    for _ in range(600):
        x, z = r.standard_normal((2, 4096, 1))
        v.append(-float(gan.discriminator_step(x, z)))
    at = np.array([[-1.0], [0.5], [2.0]])
    p, q = np.exp(-(at**2) / 2), np.exp(-((at - shift) ** 2) / 2)
    assert gan.discriminate(at) == pytest.approx(p / (p + q), abs=0.02)
    # V* by quadrature: ∫ p log D* + q log(1 − D*).
    t = np.linspace(-10, 11, 20_001)
    p, q = (np.exp(-((t - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (0, shift))
    best = np.sum(p * np.log(p / (p + q)) + q * np.log(q / (p + q))) * (t[1] - t[0])
    assert np.mean(v[-100:]) == pytest.approx(best, abs=0.01)
    if shift == 0:
        assert best == pytest.approx(-math.log(4), abs=1e-6)


# --- Shared behaviour ---------------------------------------------------------------


@pytest.mark.parametrize("packing", [1, 3])
def test_both_twins_give_equal_results_and_exchange_states(packing):
    x, z = data(30)
    one, two = hand(packing), engine(packing, rng=rng(5))
    shake(one)
    two.load_state_dict(one.state_dict())
    assert_close(one.generate(z), two.generate(z), rtol=1e-13)
    assert one.discriminate(x).shape == (30 // packing, 1)
    assert_close(one.discriminate(x), two.discriminate(x), rtol=1e-13)
    assert_close(one.logits(x), two.logits(x), rtol=1e-13)
    assert type(two.generate(z)) is np.ndarray
    assert isinstance(two.generate(Tensor(z)), Tensor)
    three = hand(packing, rng=rng(6))
    three.load_state_dict(two.state_dict())
    np.testing.assert_array_equal(three.theta_g, one.theta_g)
    np.testing.assert_array_equal(three.theta_d, one.theta_d)


@every_objective
def test_float32_stays_float32(objective):
    x, z = (a.astype(np.float32) for a in data())
    options = {"objective": objective, "r1": 0.5, "r2": 0.5, "dtype": np.float32}
    one, two = hand(**options), engine(**options)
    assert one.discriminator_step(x, z).dtype == np.float32
    assert one.generator_step(z, x).dtype == np.float32
    assert one.generate(z).dtype == one.discriminate(x).dtype == np.float32
    for loss in (two.discriminator_loss(x, z), two.generator_loss(z, x)):
        assert loss.dtype == np.float32
        loss.backward()
    assert {p.grad.dtype.name for p in two.parameters()} == {"float32"}


@pytest.mark.parametrize("objective", ["non_saturating", "relativistic"])
def test_confident_logits_keep_losses_and_gradients_finite(objective):
    x, z = (a.astype(np.float32) for a in data())
    for sign in (1000.0, -1000.0):
        gan = hand(objective=objective, dtype=np.float32)
        state = gan.state_dict()
        state["discriminator.4.W"][...] *= sign
        gan.load_state_dict(state)
        for loss in (gan.discriminator_gradients(x, z), gan.generator_gradients(z, x)):
            assert np.isfinite(loss)
        assert np.isfinite(gan.d_theta_d).all()
        assert np.isfinite(gan.d_theta_g).all()


@every_objective
def test_a_step_allocates_no_array(objective):
    n = 128
    gan = byhand.GAN(
        (100, 200, 190), (380, 210, 150, 1), rng=rng(), batch_size=n, packing=2,
        objective=objective, r1=0.1, r2=0.1,
    )  # fmt: skip
    x, z = (noise(n, d, dtype=np.float32) for d in (190, 100))

    def steps():
        gan.discriminator_step(x, z)
        gan.generator_step(z, x)

    limit = 8192 * 4 + 12_000
    assert min(a.nbytes for a in gan.generator._h[1:]) > limit
    assert_no_allocation(steps, limit)


def test_the_derivation_is_complete():
    assert_imports_no_engine(byhand.GAN)
    assert_every_equation_is_cited(byhand.GAN, elsewhere=["12"])


# --- Errors -------------------------------------------------------------------------


@every_twin
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": (3,)}, r"GAN: generator is \(3,\)"),
        (
            {"discriminator": (3, 4, 1)},
            "discriminator takes 3 columns to 1; 2 to 1 exp",
        ),
        (
            {"discriminator": (2, 4, 2)},
            "discriminator takes 2 columns to 2; 2 to 1 exp",
        ),
        ({"objective": "wgan"}, "objective is 'wgan'; one of 'saturating'"),
        ({"output": "relu"}, "output is 'relu'; one of 'linear'"),
        ({"r1": -1.0}, "r1 is -1.0; at least 0"),
        (
            {"r2": 1.0, "discriminator": (2, 1)},
            "r2 needs a discriminator with a hidden",
        ),
        ({"packing": 0, "discriminator": (2, 4, 1)}, "packing is 0; at least 1"),
    ],
)
def test_wrong_arguments_are_named(made_by, options, message):
    with pytest.raises(ValueError, match=message):
        make(made_by, **options)


def test_the_penalty_by_hand_is_for_piecewise_linear_activations():
    with pytest.raises(ValueError, match="need activation relu or leaky_relu"):
        hand(r1=1.0, activation="tanh")
    # The engine differentiates any activation.
    gan = engine(r1=1.0, activation="tanh")
    x, z = data()
    gan.discriminator_loss(x, z).backward()
    g = gan.discriminator[0].W.grad.copy()
    W = gan.discriminator[0].W.data
    ends = []
    for h in (1e-6, -1e-6):
        W[0, 0] += h
        ends.append(gan.discriminator_loss(x, z).item())
        W[0, 0] -= h
    assert g[0, 0] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@every_twin
def test_wrong_data_are_named(made_by):
    gan = make(made_by, packing=3, objective="relativistic")
    d = gan.discriminator_gradients if made_by is byhand else gan.discriminator_loss
    g = gan.generator_gradients if made_by is byhand else gan.generator_loss
    x, z = data()
    for call, message in [
        (lambda: d(x, z[:9]), "x has 12 rows, z has 9"),
        (lambda: d(x[:10], z[:10]), "10 rows are not a multiple of packing=3"),
        (lambda: d(x[:, :1], z), "x has 1 columns, 2 expected"),
        (lambda: g(z), "an array expected|real samples x"),
        (lambda: gan.discriminate(x[:10]), "10 rows are not a multiple of packing=3"),
        (lambda: gan.generate(x), "z has 2 columns, 3 expected"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            call()


def test_fit_names_the_loop_that_a_gan_needs():
    for gan in (hand(), engine()):
        with pytest.raises(TypeError, match="a GAN is trained by fit_gan"):
            fit(gan, data()[0], epochs=1, batch_size=4, rng=rng())


def test_fit_gan_refuses_wrong_arguments():
    x, _ = data()
    options = {"steps": 2, "batch_size": 4, "rng": rng(), "noise": rng(1)}
    two = engine()
    optimizers = tuple(
        optim.Adam(n.parameters()) for n in (two.generator, two.discriminator)
    )
    for gan, changed, error, message in [
        (hand(), {"steps": 0}, ValueError, "steps is 0"),
        (hand(), {"rng": 3}, TypeError, "rng is 3"),
        (hand(), {"noise": 3}, TypeError, "noise: rng is 3"),
        (hand(), {"optimizers": optimizers}, TypeError, "has its own update"),
        (engine(), {}, TypeError, "pass two optimizers"),
        (
            engine(),
            {"optimizers": optimizers[0]},
            TypeError,
            "pass two optimizers",
        ),
        (hand(), {"batch_size": 13}, ValueError, "batch_size is 13, but x has 12 rows"),
    ]:
        with pytest.raises(error, match=message):
            fit_gan(gan, x, progress=False, **(options | changed))
    bad = x.copy()
    bad[3] = np.nan
    with pytest.raises(ValueError, match="in 1 of 12 rows; the first is row 3"):
        fit_gan(hand(), bad, progress=False, **options)


def test_fit_gan_reports_when_the_game_is_lost():
    x, _ = data()
    gan = hand(update="sgd", lr=1e6)
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="the loss became nan in step 5 of 200"),
    ):
        fit_gan(
            gan, x, steps=200, batch_size=12, rng=rng(), noise=rng(1), every=1,
            progress=False,
        )  # fmt: skip
    seen = []
    gan = hand()
    history = fit_gan(
        gan, x, steps=5, batch_size=12, rng=rng(), noise=rng(1), every=2,
        callback=lambda h: seen.append(len(h.steps)), progress=False,
    )  # fmt: skip
    assert history.steps == [2, 4, 5]
    assert seen == [1, 2, 3]
    for v, real, generated in zip(
        history.v, history.real, history.generated, strict=True
    ):
        assert v < 0 < real < 1
        assert 0 < generated < 1


def test_the_discriminator_takes_k_steps_for_each_of_the_generator():
    calls = []

    class Recorder:
        paired = False
        packing = 1
        generator_sizes = (3, 2)
        dtype = np.dtype(np.float64)

        def discriminator_step(self, x, z):
            calls.append(("D", x, z))
            return 0.0

        def generator_step(self, z, x):
            calls.append(("G", z, x))
            return 0.0

        def generate(self, z):
            return z[:, :2]

        def logits(self, x):
            return x[:, :1]

    x, _ = data()
    fit_gan(
        Recorder(), x, steps=3, batch_size=4, rng=rng(), noise=rng(1),
        discriminator_steps=2, progress=False,
    )  # fmt: skip
    assert "".join(name for name, *_ in calls) == "DDGDDGDDG"
    zs = [z for name, a, b in calls for z in ([b] if name == "D" else [a])]
    assert all((a != b).any() for a, b in itertools.combinations(zs, 2))
    assert all(b is None for name, _, b in calls if name == "G")
    for name, batch, _ in calls:
        if name == "D":
            assert all((x == row).all(axis=1).any() for row in batch)


def test_a_penalty_given_as_a_numpy_number_keeps_float32():
    z = np.random.default_rng(0).standard_normal((8, 2), np.float32)
    gan = models.GAN((2, 4, 3), (3, 4, 1), rng=rng(), r1=np.float64(1.0))
    x = np.random.default_rng(1).random((8, 3), np.float32)
    assert gan.discriminator_loss(x, z).dtype == np.float32


def test_options_of_the_updates_are_for_both_networks_or_for_one():
    gan = hand(lr=0.1, betas=(0.5, 0.9), discriminator_lr=0.2, generator_eps=1e-3)
    g, d = gan.optimizer, gan.discriminator_optimizer
    assert (g.lr, d.lr) == (0.1, 0.2)
    assert (g.eps, d.eps) == (1e-3, 1e-8)
    assert g.betas == d.betas == (0.5, 0.9)
    gan = hand(discriminator_update="sgd", discriminator_lr=0.3)
    assert list(gan.discriminator_optimizer.state_dict()) == ["lr", "t"]
    assert "m.0" in gan.optimizer.state_dict()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"update": "sgd"}, TypeError, "GAN: generator: update='sgd' needs lr"),
        ({"update": "rmsprop"}, ValueError, "update is 'rmsprop'; one of 'adam', 'ad"),
        ({"generator_momentum": 0.9}, TypeError,
         "GAN: generator: 'momentum' is not an argument; update='adam' takes lr, be"),
        ({"discriminator_update": "sgd", "discriminator_betas": (0, 0)}, TypeError,
         "GAN: discriminator: 'betas' is not an argument; update='sgd' takes lr, mom"),
        ({"critic_lr": 0.1}, TypeError, "'critic_lr' is not an argument"),
        ({"lr": -1}, ValueError, "lr is -1; a positive number expected"),
    ],
)  # fmt: skip
def test_wrong_options_of_the_updates_are_named(options, error, message):
    with pytest.raises(error, match=message):
        hand(**options)
