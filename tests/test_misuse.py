"""Every public function, called wrongly: scratchnet raises, and nothing changes.

`CALLS` has a right call of each. Each argument is replaced in turn by wrong values of
its kind: another type, shape, dtype or value. The call must return a result, or raise a
TypeError, ValueError or OSError from a line of scratchnet. After an error, everything
that the call could change is unchanged.
"""

import atexit
import copy
import inspect
import shutil
import tempfile
import traceback
from functools import partial
from importlib import import_module
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import scratchnet
from scratchnet import (
    anomaly,
    byhand,
    losses,
    metrics,
    models,
    nn,
    optim,
    plots,
    report,
    testing,
    training,
)
from scratchnet.data import corruption, deer, digits, filters, idx, mixtures
from scratchnet.kernels import activations, initializers, updates
from scratchnet.tensor import Tensor
from scratchnet.training import checkpoint
from tests.helpers import rng

matplotlib.use("agg")
PACKAGE = str(Path(scratchnet.__file__).parent)
D, C = 6, 2


X = rng(1).random((12, D))
Z = rng(2).standard_normal((12, C))
LABEL = np.arange(12) % 3
IMAGES = rng(3).random((2, 9, 9))


# --- Wrong arguments ------------------------------------------------------------------


def wrong(value):
    """Return wrong values to try instead of a right one, by name."""
    everything = {"None": None, "a text": "nonsense", "an object": object()}
    if isinstance(value, Tensor):
        return {**everything, "integers": Tensor(np.arange(3))}
    if isinstance(value, np.ndarray):
        found = {
            **everything,
            "a number": 0.5,
            "texts": np.full(value.shape, "a"),
            "objects": np.full(value.shape, None),
            "complex": value + 1j,
            "one axis less": value.reshape(-1)[: len(value)] if value.ndim > 1
            else value[0],
            "one axis more": value[None],
            "no rows": value[:0],
            "one row": value[:1],
            "ragged": [[1.0], [1.0, 2.0]],
        }  # fmt: skip
        if value.dtype.kind == "f":
            found |= {
                "integers": value.astype(int),
                "float16": value.astype(np.float16),
                "float32": value.astype(np.float32),
                "NaN": np.where(value == value.flat[0], np.nan, value),
                "infinite": np.where(value == value.flat[0], np.inf, value),
                "negative": -value,
                "huge": value * 1e300,
            }
        else:
            found |= {"floats": value + 0.5, "negative": -1 - value,
                      "large": value + 10**6}  # fmt: skip
        if value.ndim > 1:
            found["a column more"] = np.concatenate([value, value[:, :1]], axis=1)
        return found
    if isinstance(value, bool):
        return everything
    if isinstance(value, int | float):
        found = {**everything, "-1": -1, "0": 0, "NaN": np.nan, "inf": np.inf,
                 "2.5": 2.5, "complex": 1j, "an array": np.ones(2)}  # fmt: skip
        return found
    if isinstance(value, str):
        return {**everything, "a number": 3}
    if type(value) in (tuple, list):
        return {
            **everything,
            "a number": 5,
            "empty": type(value)(),
            "one": type(value)(value[:1]),
            "texts": type(value)("ab"),
            "a None inside": type(value)([*value[:-1], None]),
            "a 0 inside": type(value)([*value[:-1], 0]),
            "a half inside": type(value)([*value[:-1], 0.5]),
        }
    if isinstance(value, dict):
        inside = dict.fromkeys(value, None)
        return {**everything, "empty": {}, "a list": [], "None inside": inside}
    if isinstance(value, Path):
        return {"None": None, "an object": object(), "none there": value / "none"}
    return {**everything, "a number": 3}  # a generator, a model, a function


# --- Right calls ----------------------------------------------------------------------

CALLS = {}


def call(name, function, /, *args, changes=(), **kwargs):
    """Add a right call. `function` may be a lambda without arguments that makes it.

    Args:
        name: the name of the test; the part before a space names the function.
        function: the function to call.
        *args, **kwargs: its arguments.
        changes: objects with a state_dict that must not change by an error.

    """
    assert name not in CALLS
    CALLS[name] = (function, args, kwargs, changes)


def model(side, name, **options):
    sizes = {"GAN": {}}.get(name, {"sizes": (D, 5, C)})
    if name == "GAN":
        sizes = {"generator": (3, 5, D), "discriminator": (D, 5, 1)}
    if name == "DenoisingAutoencoder":
        options["corruption"] = corruption.Gaussian(0.1)
    more = {"batch_size": 12} if side is byhand else {}
    made = {**sizes, **more, "rng": rng(), "dtype": np.float64, **options}
    return getattr(side, name)(**made)


NOISE3 = rng(4).standard_normal((12, 3))
SYSTEMS = ["Autoencoder", "StackedAutoencoder", "DenoisingAutoencoder", "VAE", "IWAE"]
OPTIONS = {
    "Autoencoder": {"output": "linear", "loss": "squared", "active_code": False},
    "StackedAutoencoder": {"output": "linear", "loss": "squared"},
    "DenoisingAutoencoder": {"output": "linear", "corruption": corruption.Gaussian(1)},
    "VAE": {"decoder": "bernoulli", "beta": 1.0},
    "IWAE": {"k": 2},
    "GAN": {"output": "tanh", "objective": "saturating", "r1": 1.0, "r2": 1.0,
            "packing": 1},
}  # fmt: skip


def enter_systems():
    for side in (byhand, models):
        for name in [*SYSTEMS, "GAN"]:
            short = f"{side.__name__.removeprefix('scratchnet.')}.{name}"
            arguments = {"rng": rng(), "init": initializers.glorot_uniform,
                         **OPTIONS[name]}  # fmt: skip
            if name == "GAN":
                arguments |= {"generator": (3, 5, D), "discriminator": (D, 5, 1)}
            else:
                arguments["sizes"] = (D, 5, C)
            if side is byhand:
                arguments |= {"batch_size": 12, "update": "adamw", "lr": 0.1,
                              "betas": (0.9, 0.99), "eps": 1e-8,
                              "weight_decay": 0.1}  # fmt: skip
            arguments |= {"slope": 0.2, "activation": "relu"}
            call(short, getattr(side, name), **arguments)
            m = model(side, name)
            made = [getattr(m, f"{of}optimizer", None) for of in ("", "discriminator_")]
            enter = partial(call, changes=(m, *filter(None, made)))
            enter(f"{short}.load_state_dict", m.load_state_dict, m.state_dict())
            if name == "GAN":
                if side is byhand:
                    for step in ("step", "gradients"):
                        d, g = f"discriminator_{step}", f"generator_{step}"
                        enter(f"{short}.{d}", getattr(m, d), X, NOISE3)
                        enter(f"{short}.{g}", getattr(m, g), NOISE3, X)
                else:
                    enter(
                        f"{short}.discriminator_loss", m.discriminator_loss, X, NOISE3
                    )
                    enter(f"{short}.generator_loss", m.generator_loss, NOISE3, X)
                enter(f"{short}.generate", m.generate, NOISE3)
                enter(f"{short}.discriminate", m.discriminate, X)
                enter(f"{short}.logits", m.logits, X)
                enter(f"{short}.check", m.check, X)
                continue
            batch = (X,)
            if name in ("VAE", "IWAE", "DenoisingAutoencoder"):
                batch = m.with_noise(X, rng=rng())
                enter(f"{short}.with_noise", m.with_noise, X, rng=rng())
            enter(f"{short}.loss", m.loss, *batch)
            if side is byhand:
                for step in ("forward", "step", "loss_and_gradients"):
                    enter(f"{short}.{step}", getattr(m, step), *batch)
            else:
                enter(f"{short}.zero_grad", m.zero_grad)
            for use in ("encode", "reconstruct", "check"):
                enter(f"{short}.{use}", getattr(m, use), X)
            enter(f"{short}.decode", m.decode, Z)
            if name == "StackedAutoencoder":
                enter(f"{short}.layer", m.layer, 1)
                enter(f"{short}.set_layer", m.set_layer, 1, m.layer(1))
            if name in ("VAE", "IWAE"):
                enter(f"{short}.posterior", m.posterior, X)
                enter(f"{short}.log_p_x", m.log_p_x, X, Z)
                enter(f"{short}.sample", m.sample, 3, rng())
                enter(f"{short}.elbo", m.elbo, X, rng())
                enter(f"{short}.elbo_terms", m.elbo_terms, X, rng())
                enter(f"{short}.log_likelihood", m.log_likelihood, X, rng(), 3)


enter_systems()

for updater, numbers in [
    (updates.SGDUpdate, {"lr": 0.1, "momentum": 0.5}),
    (updates.AdamUpdate, {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}),
    (updates.AdamWUpdate, {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8,
                           "weight_decay": 0.1}),
]:  # fmt: skip
    call(f"optim.{updater.__name__}", updater, [np.ones(3)], **numbers)
    update = updater([np.ones(3)], **numbers)
    call(f"optim.{updater.__name__}.load_state_dict", update.load_state_dict,
         update.state_dict(), changes=(update,))  # fmt: skip
    kind = getattr(optim, updater.__name__.removesuffix("Update"))
    call(f"optim.{kind.__name__}", kind, [Tensor(np.ones(3), True)], **numbers)
    made = kind([Tensor(np.ones(3), True)], **numbers)
    call(f"optim.{kind.__name__}.load_state_dict", made.load_state_dict,
         made.state_dict(), changes=(made,))  # fmt: skip
call("optim.AverageUpdate", updates.AverageUpdate, [np.ones(3)], 0.9)
average = updates.AverageUpdate([np.ones(3)], 0.9)
call("optim.AverageUpdate.load_state_dict", average.load_state_dict,
     average.state_dict(), changes=(average,))  # fmt: skip
call("optim.EMA", optim.EMA, [Tensor(np.ones(3), True)], 0.9)
call("optim.cosine_decay", optim.cosine_decay, 1e-3, 10, 1e-4)
call("optim.hold_then_decay", optim.hold_then_decay, 1e-3, 10, 0.5, 1e-4)
call("kernels.activation", activations.activation, "leaky_relu", 0.2)
for name in ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal"):
    call(f"nn.{name}", getattr(nn, name), rng(), (3, 2), "float32")

call("nn.Dense", nn.Dense, 3, 2, rng=rng(), init=nn.he_normal, bias=True)
call("nn.Maxout", nn.Maxout, 3, 2, 2, rng=rng(), init=nn.he_normal)
call("nn.activation", nn.activation, "leaky_relu", 0.2)
call("nn.Dropout", nn.Dropout, 0.5, rng=rng())
call("nn.LeakyReLU", nn.LeakyReLU, 0.2)
call("nn.mlp", nn.mlp, (3, 4, 2), nn.ReLU, rng=rng(), init=nn.he_normal)
call("nn.Sequential", nn.Sequential, nn.ReLU(), nn.Tanh())
dense = nn.Dense(D, 2, rng=rng(), dtype=np.float64)
call("nn.Dense.forward", dense.forward, X)
call("nn.Maxout.forward", nn.Maxout(D, 2, 2, rng=rng(), dtype=np.float64).forward, X)
call("nn.Module.load_state_dict", dense.load_state_dict, dense.state_dict(),
     changes=(dense,))  # fmt: skip
call("nn.Module.register_buffer", nn.ReLU().register_buffer, "mean", X[0])

call("nn.evaluate", nn.evaluate, dense, X)
ema = optim.EMA(dense.parameters(), 0.9)
call("optim.EMA.load_state_dict", ema.load_state_dict, ema.state_dict(), changes=(ema,))
call("losses.squared_error", losses.squared_error, X, X)
call(
    "losses.binary_cross_entropy_with_logits",
    losses.binary_cross_entropy_with_logits,
    X,
    X,
)
call("losses.softmax_cross_entropy", losses.softmax_cross_entropy, X, LABEL)
call("losses.gaussian_kl", losses.gaussian_kl, X, X)
call("losses.gaussian_nll", losses.gaussian_nll, X, X, X)

for name in ("Classifier", "Regressor"):
    kind = getattr(import_module("scratchnet.models.supervised"), name)
    call(
        f"models.supervised.{name}",
        kind,
        (D, 5, 3),
        rng=rng(),
        activation="relu",
        slope=0.1,
    )
    m = kind((D, 5, 3), rng=rng(), dtype=np.float64)
    second = LABEL if name == "Classifier" else X[:, :3]
    for method in ("loss", "check"):
        call(f"models.supervised.{name}.{method}", getattr(m, method), X, second)
    for method in ("forward", "predict"):
        call(f"models.supervised.{name}.{method}", getattr(m, method), X)
    if name == "Classifier":
        call(f"models.supervised.{name}.accuracy", m.accuracy, X, LABEL)
        call(f"models.supervised.{name}.probabilities", m.probabilities, X)

quiet = {"progress": False, "batch_size": 4}
hand, engine = model(byhand, "VAE"), model(models, "VAE")
adam = optim.Adam(engine.parameters())
call("training.fit by hand", training.fit, hand, X, epochs=1, rng=rng(), noise=rng(),
     validation=X, callback=str, changes=(hand, hand.optimizer), **quiet)  # fmt: skip
call("training.fit", training.fit, engine, X, epochs=1, rng=rng(), noise=rng(),
     optimizer=adam, changes=(engine, adam), **quiet)  # fmt: skip
stack = model(byhand, "StackedAutoencoder")
call("training.pretrain by hand", training.pretrain, stack, X, epochs=1, rng=rng(),
     changes=(stack,), **quiet)  # fmt: skip
stack = model(models, "StackedAutoencoder")
call("training.pretrain", training.pretrain, stack, X, epochs=1, rng=rng(),
     optimizer=optim.Adam, changes=(stack,), **quiet)  # fmt: skip
gan = model(byhand, "GAN")
call("training.fit_gan", training.fit_gan, gan, X, steps=2, rng=rng(), noise=rng(),
     discriminator_steps=1, every=1, average=updates.AverageUpdate([gan.theta_g], 0.5),
     changes=(gan, gan.optimizer), **quiet)  # fmt: skip

for kind, level in [("Gaussian", 0.1), ("Masking", 0.5), ("SaltAndPepper", 0.5)]:
    made = getattr(corruption, kind)
    call(f"data.corruption.{kind}", made, level)
    call(f"data.corruption.{kind}.check", made(level).check, X)
    call(f"data.corruption.{kind}.__call__", made(level), X, rng())
call("data.corruption.Fog", corruption.Fog, (0.1, 0.2), (0.5, 0.6), 0.1)
call("data.corruption.Fog.check", corruption.Fog().check, X, X)
call("data.corruption.Fog.__call__", corruption.Fog(), X, X, rng())
call("data.digits.draw_digits", digits.draw_digits, 2, rng(), pixels=12, label=3,
     rotation=0.1, thickness=0.1, size=0.6, slant=0.1, shift=np.zeros(2))  # fmt: skip
call("data.deer.draw_scenes", deer.draw_scenes, 2, rng(), pixels=20,
     deer=np.array([True, False]))  # fmt: skip
call("data.filters.gaussian_filter", filters.gaussian_filter, IMAGES, 1.0)
call("data.filters.median_filter", filters.median_filter, IMAGES, 3)
call("data.filters.stretch_contrast", filters.stretch_contrast, IMAGES, 1.0)
call("data.filters.dehaze", filters.dehaze, IMAGES, 5, 0.9, 0.1)
call("data.corruption.koschmieder", corruption.koschmieder, X, X, 0.1, 0.5)
call("data.mixtures.Mixture", mixtures.Mixture, X, 0.5)
call("data.mixtures.Mixture.sample", mixtures.ring().sample, 3, rng())
call("data.mixtures.Mixture.log_density", mixtures.ring().log_density, Z)
call("data.mixtures.gaussian", mixtures.gaussian, 0.0, 1.0)
call("data.mixtures.ring", mixtures.ring, 8, 1.0, 0.1)
call("data.mixtures.grid", mixtures.grid, 5, 1.0, 0.1)
call("data.mixtures.swiss_roll", mixtures.swiss_roll, 3, rng(), 0.1)
call("data.mixtures.two_moons", mixtures.two_moons, 3, rng(), 0.1)

call("metrics.reconstruction_error", metrics.reconstruction_error, X, X)
call("metrics.psnr", metrics.psnr, X, X + 0.1)
call("metrics.ssim", metrics.ssim, rng().random((2, 144)), rng(1).random((2, 144)),
     (12, 12))  # fmt: skip
call("metrics.PCA", metrics.PCA, 2)
pca = metrics.PCA(2).fit(X)
call("metrics.PCA.fit", metrics.PCA(2).fit, X)
call("metrics.PCA.transform", pca.transform, X)
call("metrics.PCA.fit_transform", metrics.PCA(2).fit_transform, X)
call("metrics.PCA.inverse_transform", pca.inverse_transform, Z)
call("metrics.nearest_neighbors", metrics.nearest_neighbors, X, X, 2)
call("metrics.knn_accuracy", metrics.knn_accuracy, X, LABEL, X, LABEL, 2)
call("metrics.linear_probe", metrics.linear_probe, X, Z, X, Z, 1e-3)
call("metrics.neighbor_agreement", metrics.neighbor_agreement, X, LABEL)
call("metrics.intrinsic_dimension", metrics.intrinsic_dimension, X)
call("metrics.relative_contrast", metrics.relative_contrast, X, X[:2] + 1)
call("metrics.expected_contrast", metrics.expected_contrast, 10, 3, "normal")
call("metrics.normal_range", metrics.normal_range, 10)
call("metrics.mode_coverage", metrics.mode_coverage, Z, Z[:3], 0.1)
call("metrics.ks_statistic", metrics.ks_statistic, X[:, 0], X[:, 1])
call("metrics.frechet_distance", metrics.frechet_distance, X, X)
call("metrics.nearest_distance", metrics.nearest_distance, X, X)
call("metrics.parzen_log_likelihood", metrics.parzen_log_likelihood, X, X, 0.2)

call("tensor.Tensor", Tensor, X, requires_grad=True, name="x")
call("tensor.grad", scratchnet.grad, np.sum, 0)
call("tensor.value_and_grad", scratchnet.value_and_grad, np.sum, 0)
call("graph.mark_modified", scratchnet.mark_modified, Tensor(X))
call("table.rule", scratchnet.rule, np.dtype, lambda g, y, x: g)
call("table.rule_each", scratchnet.rule_each, np.iinfo, lambda g, y, i, x: g)
call("table.rewrite", scratchnet.rewrite, np.finfo, lambda x: x)
call("table.nondifferentiable", scratchnet.nondifferentiable, np.errstate)
call("table.primitive", scratchnet.primitive, lambda x: x)
variable = Tensor(X, requires_grad=True)
call("tensor.Tensor.backward", lambda gradient, inputs: np.exp(variable).backward(
    gradient, inputs=inputs), X, [variable])  # fmt: skip
call("testing.gradcheck", testing.gradcheck, lambda x: np.sum(x), (X,))


call("scratchnet.detect_anomaly", scratchnet.detect_anomaly)
call("anomaly.watched", anomaly.watched, model(byhand, "VAE"))
call("testing.assert_detects", testing.assert_detects, lambda x: np.sum(x), (X,))

FOLDER = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, FOLDER)
state = checkpoint.State({"a": X}, {"t": 1})
call("training.checkpoint.save", checkpoint.save, FOLDER / "a.npz", {"a": X})
call("training.checkpoint.write_whole", checkpoint.write_whole, FOLDER / "b", b"text")
checkpoint.save(FOLDER / "c.npz", {"a": X})
call("training.checkpoint.load", checkpoint.load, FOLDER / "c.npz", max_bytes=10**6)
call("training.checkpoint.load_facts", checkpoint.load_facts, FOLDER / "c.npz")
call("training.checkpoint.write_json", checkpoint.write_json, FOLDER / "j", {"a": 1})
checkpoint.write_json(FOLDER / "k", {"a": 1})
call("training.checkpoint.read_json", checkpoint.read_json, FOLDER / "k", 100)
call(
    "training.checkpoint.Checkpoints", checkpoint.Checkpoints, FOLDER, every=1.0, keep=2
)
call(
    "training.checkpoint.Checkpoints.prune",
    checkpoint.Checkpoints(FOLDER / "e").prune,
    1,
)
call(
    "training.checkpoint.Checkpoints.write",
    checkpoint.Checkpoints(FOLDER / "d").write,
    state,
)
call("training.checkpoint.adding", checkpoint.adding, print, {"a": X})
call("training.checkpoint.generator_state", checkpoint.generator_state, rng())
call("training.checkpoint.set_generator_state", checkpoint.set_generator_state, rng(),
     checkpoint.generator_state(rng()))  # fmt: skip
(FOLDER / "e").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 3, 4]))
for name, ndim in [("images", 3), ("labels", 1)]:
    path = FOLDER / f"t10k-{name}-idx{ndim}-ubyte"
    path.write_bytes(bytes([0, 0, 8, ndim]) + b"\0\0\0\1" * ndim + b"\2")
call("data.idx.read_idx", idx.read_idx, FOLDER / "e", max_bytes=100)
call("data.idx.load_mnist", idx.load_mnist, FOLDER, "test", classes=3)
call("data.idx.download_mnist", idx.download_mnist, FOLDER, mirrors=[], files={},
     timeout=1.0)  # fmt: skip

pictures = rng().random((4, 3, 3))
digit = np.arange(4)
call("plots.picture_rows", plots.picture_rows, {"a": pictures}, "below", title="above",
     ink=True)  # fmt: skip
call("plots.sheets", plots.sheets, {"a": pictures}, ink=True)
call("plots.code_plane", plots.code_plane, pictures, np.array([0.0, 1.0]),
     title="above", ink=True)  # fmt: skip
call("plots.loss_curve", plots.loss_curve, [1.0, 0.5], [1.0, 0.6], {"PCA": 0.1}, "loss",
     "above")  # fmt: skip
call("plots.game", plots.game, [1, 2], [0.5, 1.0], [0.5, 0.5], [0.5, 0.5])
call("plots.planes", plots.planes, {"a": pictures[:, 0, :2]}, digit, "x", "y", "above")
figure, ((ax,),) = plots.panels(1, 1, (4.6, 3.6))
call("plots.panels", plots.panels, 1, 1, (4.6, 3.6))
call("plots.scatter_digits", plots.scatter_digits, ax, pictures[:, 0, :2], digit, 26.0)
call("plots.as_images", plots.as_images, "sheets", "'a'", pictures)
call("plots.png", plots.png, pictures[0], ink=True)
history = scratchnet.training.History([1.0], [], [1.0])
call("report.write", report.write, history, FOLDER / "r.html", "en")
call("plots.save", plots.save, figure, FOLDER / "f.png")
call("plots.styled", plots.styled, plots.sheets)


def attempt(name, key, value):
    """Make a call with one argument replaced; return the fault in its answer."""
    function, args, kwargs, changes = CALLS[name]
    args, kwargs = list(args), dict(kwargs)
    if isinstance(key, int):
        args[key] = value
    else:
        kwargs[key] = value
    before = [c.state_dict() for c in changes]
    try:
        function(*args, **kwargs)
    except (TypeError, ValueError, OSError, FloatingPointError) as error:
        if isinstance(error, OSError) and error.filename:
            return None  # the system's message, with the file's name
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.startswith(PACKAGE) or not last.line.startswith("raise"):
            return f"{last.filename}:{last.lineno}: {type(error).__name__}: {error}"
        for c, state in zip(changes, before, strict=True):
            for k, a in c.state_dict().items():
                if not np.array_equal(a, state[k], equal_nan=True):
                    return f"{k} was changed before the error came: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for c, state in zip(changes, before, strict=True):
        c.load_state_dict(state)
    return None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_raises_an_error_of_scratchnet(name):
    _, args, kwargs, _ = CALLS[name]
    found = []
    for key, right in [*enumerate(args), *kwargs.items()]:
        for label, value in wrong(right).items():
            if answer := attempt(name, key, value):
                found.append(f"argument {key}, {label}: {answer}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", CALLS)
def test_the_right_call_is_right(name):
    function, args, kwargs, _ = CALLS[name]
    function(*args, **kwargs)


# --- Subclasses of ndarray -----------------------------------------------------------
# An array of a subclass counts as its plain array. A masked array with masked entries
# is refused.


class Backwards(np.ndarray):
    """An array whose functions do something else, which a subclass may do."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        inputs = [-np.asarray(x) for x in inputs]
        return getattr(ufunc, method)(*inputs, **kwargs)


def as_memmap(x):
    path = FOLDER / f"memmap-{x.dtype}-{'x'.join(map(str, x.shape))}"
    mapped = np.memmap(path, x.dtype, "w+", shape=x.shape)
    mapped[...] = x
    return mapped


SUBCLASSES = {
    "a matrix": lambda x: np.matrix(x) if x.ndim == 2 else x.view(np.recarray),
    "a memmap": as_memmap,
    "without a mask": np.ma.array,
    "a user's": lambda x: x.view(Backwards),
}


def with_mask(x):
    return np.ma.array(x, mask=np.arange(x.size).reshape(x.shape) == x.size // 2)


def plain_of(result):
    """Return the arrays of a result, which must be plain arrays."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return [a for part in result for a in plain_of(part)]
    if isinstance(result, Tensor):
        return plain_of(result.data)
    assert not isinstance(result, np.ndarray) or type(result) is np.ndarray
    numeric = isinstance(result, np.ndarray | np.generic | float)
    return [np.array(result)] if numeric else []


OURS = ("kernels.", "nn.", "losses.", "byhand.", "models.", "metrics.",
        "data.corruption.", "data.filters.")  # fmt: skip
# For each call, the places of its arrays: an argument, or an entry of one.
PLACES = {
    name: places
    for name, (_, args, kwargs, _) in CALLS.items()
    if name.startswith(OURS)
    and (
        places := [
            (key, entry)
            for key, value in [*enumerate(args), *kwargs.items()]
            for entry in (value if isinstance(value, dict) else [None])
            if isinstance(value if entry is None else value[entry], np.ndarray)
        ]
    )
}


def answer(name, place=None, make=None):
    """Return the arrays that a call returns; undo its changes.

    Args:
        name: the name of the call.
        place: the place of the array to replace.
        make: makes the new array from the old one.

    """
    function, args, kwargs, changes = CALLS[name]
    args, kwargs = [fresh(a) for a in args], {k: fresh(a) for k, a in kwargs.items()}
    if place is not None:
        key, entry = place
        into = args if isinstance(key, int) else kwargs
        if entry is not None:
            into, key = into[key], entry
        into[key] = make(into[key])
    before = [c.state_dict() for c in changes]
    try:
        return plain_of(function(*args, **kwargs)), states(changes)
    finally:
        for c, state in zip(changes, before, strict=True):
            c.load_state_dict(state)


def fresh(value):
    """Return a copy of a generator or dict, because calls change them."""
    return (
        copy.deepcopy(value) if isinstance(value, np.random.Generator | dict) else value
    )


def states(changes):
    return [a for c in changes for a in c.state_dict().values()]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix
@pytest.mark.parametrize("name", PLACES)
def test_an_array_of_a_subclass_is_its_plain_array(name):
    right = answer(name)
    for place in PLACES[name]:
        for label, make in SUBCLASSES.items():
            found = answer(name, place, make)
            for one, other in zip(right, found, strict=True):
                assert len(one) == len(other)
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{place}, {label}")


@pytest.mark.parametrize("name", PLACES)
def test_a_mask_is_not_lost_silently(name):
    function, _, _, changes = CALLS[name]
    parameters = list(inspect.signature(function).parameters.values())
    for key, entry in PLACES[name]:
        argument = entry or key
        if isinstance(argument, int):
            several = any(
                p.kind == p.VAR_POSITIONAL for p in parameters[: argument + 1]
            )
            argument = "masked array" if several else parameters[argument].name
        before = states(changes)
        with pytest.raises((TypeError, ValueError), match="masked") as caught:
            answer(name, (key, entry), with_mask)
        assert argument in str(caught.value)
        assert ".filled(value)" in str(caught.value)
        for a, b in zip(before, states(changes), strict=True):
            np.testing.assert_array_equal(a, b)


# --- All functions are covered --------------------------------------------------------

MODULES = [
    "anomaly", "byhand", "data.corruption", "data.deer", "data.digits",
    "data.filters", "data.idx", "data.mixtures", "losses", "metrics", "models",
    "models.supervised", "nn", "optim", "plots", "testing", "testing.strategies",
    "training", "training.checkpoint",
]  # fmt: skip
LEFT_OUT = {
    "they hold results": (
        "training.checkpoint.State", "data.deer.Scenes", "data.digits.Digits",
        "data.idx.Mnist",
        "metrics.Coverage", "testing.GradientReport",
        "training.History", "training.GANHistory",
    ),
    "NumPy's functions, in NumPy's words": (
        "losses.bernoulli_terms", "losses.gaussian_terms", "nn.ReLU.forward",
        "nn.LeakyReLU.forward", "nn.Sigmoid.forward", "nn.Tanh.forward",
        "nn.Dropout.forward", "nn.Sequential.forward", "nn.Module.forward",
        "models.Autoencoder.forward",
    ),
    "a step calls them": ("optim.AdamUpdate.apply", "optim.AverageUpdate.take_from"),
    "`fit` calls them": (
        "training.checkpoint.save_last", "training.checkpoint.Checkpoints.end",
    ),
    "they need other processes": (
        "training.Group", "training.Group.add", "training.Group.any",
        "training.Group.from_first", "training.Group.gathered", "training.Group.agree",
        "training.Group.total", "training.Group.share",
    ),
    "true or false": ("nn.Module.train",),
    "abstract": ("optim.Optimizer", "optim.Optimizer.load_state_dict"),
    "Hypothesis asks them": (
        "testing.strategies.arrays", "testing.strategies.axes",
        "testing.strategies.broadcastable", "testing.strategies.shapes",
    ),
}  # fmt: skip


def public():
    """Yield every public function, class and method that takes arguments, by name."""
    for module in MODULES:
        found = import_module(f"scratchnet.{module}")
        names = getattr(found, "__all__", None) or [
            n for n, x in vars(found).items()
            if not n.startswith("_") and getattr(x, "__module__", "") == found.__name__
            and callable(x)
        ]  # fmt: skip
        for n in names:
            x = getattr(found, n)
            if not (inspect.isclass(x) or inspect.isroutine(x)):
                continue  # a module, a number, an alias of a type
            home = getattr(x, "__module__", "").removeprefix("scratchnet.")
            if home != module and home in MODULES:
                continue
            yield f"{module}.{n}", x
            if inspect.isclass(x):
                for method, f in vars(
                    x
                ).items():  # inherited methods belong to the parent
                    f = getattr(f, "__func__", f)  # for a staticmethod
                    if inspect.isfunction(f) and not method.startswith("_"):
                        yield f"{module}.{n}.{method}", f


def test_every_public_function_is_called_wrongly():
    left_out = {name for names in LEFT_OUT.values() for name in names}
    assert not left_out & set(CALLS)
    missing = []
    for name, f in public():
        if name in left_out or (inspect.isclass(f) and issubclass(f, Exception)):
            continue
        takes = [p for p in inspect.signature(f).parameters if p != "self"]
        covered = name in CALLS or any(n.startswith(f"{name} ") for n in CALLS)
        if takes and not covered:
            missing.append(name)
    assert not missing
