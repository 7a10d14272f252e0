"""Facts about the parts of a run: options by name, equal in every process."""

import json
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from scratchnet import byhand, models, nn, optim
from scratchnet.data.corruption import Fog, Gaussian, Masking
from scratchnet.training.facts import described, generators_of
from tests.helpers import rng

ROOT = Path(__file__).parent.parent.parent
SIZES = (6, 5, 4, 2)
X = np.random.default_rng(1).random((12, 6), np.float32)
LEVEL = 0.5  # a global that `reads_a_global` reads


def systems():
    """Yield the name and the maker of each system in both forms."""
    for name in ("Autoencoder", "StackedAutoencoder", "DenoisingAutoencoder", "VAE",
                 "IWAE"):  # fmt: skip
        given = {"corruption": Masking(0.5)} if name.startswith("D") else {}
        for kind in (byhand, models):
            memory = {"batch_size": 12} if kind is byhand else {}
            yield (
                f"{kind.__name__}.{name}",
                partial(getattr(kind, name), SIZES, rng=rng(), **memory, **given),
            )
    for kind in (byhand, models):
        nets = ((2, 4, 6), (6, 4, 1))
        yield f"{kind.__name__}.GAN", partial(kind.GAN, *nets, rng=rng())


MAKE = dict(systems())
OPTIONS = {
    "Autoencoder": [{"activation": "tanh"}, {"activation": "leaky_relu"},
                    {"activation": "leaky_relu", "slope": 0.1}, {"output": "linear"},
                    {"loss": "cross_entropy"}, {"dtype": np.float64}],
    "StackedAutoencoder": [{"activation": "sigmoid"}, {"loss": "cross_entropy"}],
    "DenoisingAutoencoder": [{"corruption": Masking(0.4)}, {"corruption": Fog()},
                             {"corruption": Gaussian(0.5)}],
    "VAE": [{"beta": 2.0}, {"beta": 0.0}, {"decoder": "gaussian"},
            {"activation": "tanh"}],
    "IWAE": [{"k": 3}, {"decoder": "gaussian"}],
    "GAN": [{"objective": "relativistic"}, {"r1": 0.1}, {"r2": 0.1},
            {"output": "linear"}],
}  # fmt: skip


@pytest.mark.parametrize("name", MAKE)
def test_each_option_of_a_system_is_a_fact(name):
    facts = [described(model=MAKE[name]())]
    assert described(model=MAKE[name]()) == facts[0]
    for options in OPTIONS[name.rpartition(".")[2]]:
        facts.append(described(model=MAKE[name](**options)))
    texts = [json.dumps(one) for one in facts]
    assert len(set(texts)) == len(texts), name
    assert {type(value) for one in facts for value in one.values()} <= {
        str, int, float, bool
    }  # fmt: skip


def test_facts_have_the_names_of_attributes():
    model = byhand.VAE(SIZES, rng=rng(), batch_size=12, beta=4, activation="leaky_relu")
    facts = described(model=model, optimizer=model.optimizer)
    expected = {
        "model": "scratchnet.byhand.vae.VAE",
        "model.batch_size": 12,
        "model.dtype": "float32",
        "model.sizes": "(6, 5, 4, 2)",
        "model.gaussian": False,
        "model.beta": 4.0,
        "model.encoder.f[0].forward": (
            "scratchnet.kernels.activations._leaky_relu.<locals>.forward"
        ),
        "model.encoder.f[0].forward.slope": 0.2,
        "model.decoder.f[0].forward": "as model.encoder.f[0].forward",
        "model.optimizer": "as optimizer",
        "optimizer": "scratchnet.kernels.updates.AdamUpdate",
        "optimizer._rate": 0.001,
        "optimizer.betas": "(0.9, 0.999)",
        "optimizer.eps": 1e-8,
        "optimizer.weight_decay": 0.0,
    }
    assert {k: facts.get(k) for k in expected} == expected
    denoising = MAKE["scratchnet.models.DenoisingAutoencoder"]()
    adam = optim.Adam(denoising.parameters(), lr=0.1)
    facts = described(model=denoising, optimizer=adam)
    assert facts["model.corruption"] == "scratchnet.data.corruption.Masking"
    assert facts["model.corruption.p"] == 0.5
    assert facts["optimizer._update._rate"] == 0.1


@pytest.mark.parametrize("name", [n for n in MAKE if n.startswith("scratchnet.byhand")])
def test_values_that_training_changes_are_not_facts(name):
    model = MAKE[name]()
    before = described(model=model)
    if name.endswith("GAN"):
        z = rng().standard_normal((6, 2), np.float32)
        model.discriminator_step(X[:6], z)
        model.generator_step(z)
    else:
        noisy = hasattr(model, "with_noise")
        batch = model.with_noise(X, rng=rng()) if noisy else (X,)
        model.loss(*batch)
        model.step(*batch)
        model.group = object()  # the processes that train it
    assert described(model=model) == before


# --- Parts made by users ------------------------------------------------------------


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Table:
    values: np.ndarray


class Slotted:
    __slots__ = ("p",)

    def __init__(self, p):
        self.p = p


class Called:
    def __init__(self, held):
        self._held = held

    def __call__(self, x, rng):
        return x

    def method(self, x, rng):
        return x


def holding(value):
    return lambda x, rng: (x, value)


def by_default(value):
    def f(x, rng, p=value, *, q=value):
        return x, p, q

    return f


def with_attribute(value):
    def f(x, rng):
        return x

    f.level = value
    return f


def reads_a_global(x, rng):
    return x * LEVEL


def calls(other):
    return lambda x: other(x)


VALUES = [
    (0.5, 0.25), (1, 2), (True, False), ("a", "b"), (None, 0), (1j, 2j), (b"a", b"b"),
    (np.float32(0.5), np.float32(0.25)), (np.nan, np.inf), (0.0, -0.0),
    ((1, 2), (1, 3)), ([1, [2]], [1, [3]]), ({"a": 1}, {"a": 2}), ({"a": 1}, {"b": 1}),
    ({1, 2}, {1, 3}), (frozenset("ab"), frozenset("ac")), (Fraction(1, 2), Fraction(2)),
    (deque([1]), deque([2])), (range(3), range(4)), (Colour.RED, Colour.BLUE),
    (np.dtype("f4"), np.dtype("f8")), (np.float32, np.float64), (np.tanh, np.sin),
    (np.clip, np.where), (np.eye(2), np.ones((2, 2))), (np.eye(2), np.eye(2, 2, 1)),
    (np.eye(2), np.eye(2, dtype="f4")),
    (np.zeros(0), np.zeros((0, 2))), (np.ones(()), np.zeros(())),
    (Masking(0.5), Masking(0.4)), (Table(np.eye(2)), Table(np.ones(2))),
    (Slotted(1), Slotted(2)), (Called(1), Called(2)),
    (Called(Called(1)), Called(Called(2))),
    (Called(1).method, Called(2).method), (holding(1), holding(2)),
    (by_default(1), by_default(2)), (with_attribute(1), with_attribute(2)),
    (partial(max, 1), partial(max, 2)), (partial(max, key=len), partial(max, key=abs)),
    (cache(holding(1)), cache(holding(2))), ([0.1].__getitem__, [0.2].__getitem__),
    (np.eye(1).__getitem__, np.ones(2).__getitem__), ({0: 1}.get, {0: 2}.get),
    (lambda t: 0.1, lambda t: 0.2), (lambda t: t, lambda t: -t),
    (lambda x: x.sum(), lambda x: x.max()), (calls(lambda x: 1), calls(lambda x: 2)),
    (lambda x: x in {"a", "b"}, lambda x: x in {"a", "c"}),
    (nn.Dense(2, 2, rng=rng()), nn.Dense(2, 2, rng=rng(1))),
]  # fmt: skip


@pytest.mark.parametrize("pair", VALUES, ids=lambda p: type(p[0]).__name__)
def test_a_difference_anywhere_in_a_corruption_is_found(pair):
    for made in (Called, holding, lambda v: Called([v, {"k": (v, 1)}])):
        one, other = (described(part=made(value)) for value in pair)
        assert json.dumps(one) != json.dumps(other)
        assert json.dumps(described(part=made(pair[0]))) == json.dumps(one)


def test_a_global_that_is_read_is_a_fact(monkeypatch):
    part = Called(reads_a_global)
    before = described(part=part)
    assert before["part._held.LEVEL"] == 0.5
    monkeypatch.setitem(globals(), "LEVEL", 0.25)
    assert described(part=part)["part._held.LEVEL"] == 0.25


def recurses(n):
    return n and recurses(n - 1)


def test_objects_that_contain_themselves_have_facts():
    one = Called(None)
    one._held = [one, {"self": one}, recurses]
    facts = described(part=one)
    assert facts["part._held[0]"] == "as part"
    assert facts["part._held[1].self"] == "as part"
    assert facts["part._held[2].recurses"] == "as part._held[2]"


def test_generators_are_found_and_their_state_is_not_a_fact():
    one, other = rng(1), np.random.Generator(np.random.MT19937(2))
    part = Called([one, holding(other)])
    before = described(part=part)
    assert before["part._held[0]"] == "a PCG64 generator"
    one.random(3)
    assert described(part=part) == before
    assert generators_of(part=part) == {
        "part._held[0]": one, "part._held[1].value": other
    }  # fmt: skip


SHOW = """
import json, sys
from threading import Lock
from tests.training.test_facts import Called, MAKE, Slotted, VALUES, described
parts = {name.replace(".", "_"): make() for name, make in MAKE.items()}
held = [value for pair in VALUES for value in pair]
odd = [Lock(), object(), iter([]), sys.stdin, print, {"b", "a", "c"}, Slotted({"x"})]
print(json.dumps(described(**parts, part=Called([held, odd]))))
"""


def test_facts_are_the_same_in_every_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", SHOW], cwd=ROOT, text=True, check=True,
            capture_output=True, env={"PYTHONHASHSEED": seed, "A": seed * 99},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    (text,) = found
    assert " at 0x" not in text
    assert text.count("_thread.lock") == 1
