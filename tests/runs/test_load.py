"""A trained run in Python: scratchnet.runs.load gives its model."""

from pathlib import Path

import numpy as np
import pytest

from scratchnet import backend, byhand, models, runs
from scratchnet.runs.systems import SYSTEMS
from scratchnet.training import checkpoint

COMMON = "--data data --hidden 3 --batch-size 4 --seed 3"
TRAIN = {
    name: f"train {name} {COMMON} --code 2 --epochs 1"
    for name in SYSTEMS if name != "gan"
}  # fmt: skip
TRAIN["gan"] = f"train gan {COMMON} --noise 2 --steps 2"


@pytest.mark.parametrize("name", TRAIN)
def test_the_model_of_a_run_is_rebuilt_with_its_weights(run, name):
    assert run(TRAIN[name])[0] == 0
    weights, _ = checkpoint.load(Path("runs", name, "weights.npz"))
    for engine, room in (("byhand", byhand), ("autograd", models)):
        model = runs.load(f"runs/{name}", engine)
        assert type(model) is getattr(room, SYSTEMS[name].model)
        state = model.state_dict()
        assert state.keys() == weights.keys()
        for key, a in weights.items():
            np.testing.assert_array_equal(backend.to_numpy(state[key]), a)


def test_the_model_is_by_hand_by_default(run):
    run(TRAIN["vae"])
    model = runs.load(Path("runs/vae/weights.npz"))  # the file works too
    assert isinstance(model, byhand.VAE)
    assert model.sample(5, np.random.default_rng(0)).shape == (5, 16)


def test_an_error_says_why_a_run_cannot_be_loaded(run):
    run(TRAIN["vae"])
    with pytest.raises(FileNotFoundError, match="none: no such file; `train` writes"):
        runs.load("none")
    with pytest.raises(ValueError, match="engine='torch'; 'byhand' or 'autograd'"):
        runs.load("runs/vae", "torch")
    path = Path("runs/vae/weights.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"weights\.npz: not a file of weights"):
        runs.load("runs/vae")
