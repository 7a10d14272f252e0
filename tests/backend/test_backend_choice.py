"""Choosing a backend: errors name what is missing."""

import os
import subprocess
import sys

import numpy as np
import pytest

from scratchnet import backend
from scratchnet.cli.main import main
from tests.backend.cupy_alike import fake


@pytest.fixture(autouse=True)
def numpy_again():
    yield
    backend.use("numpy")
    for name in ("cupy", "cupy-tf32"):
        backend._made.pop(name, None)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, r"CuPy cannot be imported .*pip install 'scratchnet\[cuda12\]' or"),
        (
            fake(None),
            r"CuPy 14\.2 is installed, but CUDA does not work .*driver version",
        ),
        (fake(0), r"CuPy 14\.2 is installed, but there is no GPU; use 'numpy'"),
    ],
)
def test_an_error_names_what_is_missing_and_numpy_stays(
    monkeypatch, capsys, module, message
):
    monkeypatch.setitem(sys.modules, "cupy", module)
    before = backend.name()
    with pytest.raises(backend.BackendError, match=message):
        backend.use("cupy")
    assert backend.name() == before
    assert main(["sample", "runs/none", "--backend", "cupy"]) == 1
    assert "scratchnet: backend 'cupy': CuPy" in capsys.readouterr().err


def test_cupy_is_used_if_it_is_installed(monkeypatch):
    cupy = fake(1)
    for name, module in cupy.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    backend.use("cupy")
    assert backend.name() == "cupy"
    assert not backend.on_host()
    assert backend.zeros(2).dtype == np.float32
    assert backend.empty((2, 3)).shape == (2, 3)
    assert backend.asarray([1, 2], np.float32).dtype == np.float32
    assert backend.to_numpy(np.ones(2)).tolist() == [1, 1]
    total = np.zeros(3)
    backend.scatter_add(total, np.array([1, 1]), np.ones(2))
    assert total.tolist() == [0, 2, 0]
    assert cupy.precision == {np.float32: "FP32"}
    backend.use("cupy-tf32")
    assert backend.name() == "cupy-tf32"
    assert cupy.precision == {np.float32: "TF32"}
    backend.use("numpy")
    assert backend.name() == "numpy"
    assert backend.on_host()


def test_there_are_four():
    names = "'numpy', 'c', 'cupy', 'cupy-tf32'"
    with pytest.raises(ValueError, match=f"'jax'; one of {names} expected"):
        backend.use("jax")


def test_the_environment_chooses():
    command = "import scratchnet.backend as b; print(b.name())"
    for name, answer in [("numpy", "numpy"), ("jax", "backend: 'jax'; one of")]:
        environment = {**os.environ, "SCRATCHNET_BACKEND": name}
        found = subprocess.run(
            [sys.executable, "-c", command], check=False, capture_output=True,
            text=True, env=environment,
        )  # fmt: skip
        assert answer in found.stdout + found.stderr
        assert (found.returncode == 0) == (name == "numpy")
