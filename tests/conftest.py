"""Settings for all tests."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

# Before NumPy is imported. The matrices here are small: a second thread gains nothing.
# If another program uses the other core, waiting for it costs twentyfold.
for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Hypothesis fails an example that takes 0.2 s. Reading a damaged file can take longer
# on a busy machine, and no test may depend on time.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_collection_finish():
    """Make the garbage collector skip the tests themselves, which stay to the end.

    Otherwise it would scan them again and again, a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def real_mnist():
    """Return the folder of MNIST's files, or skip the test."""
    from scratchnet.data.idx import MNIST_FILES

    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SCRATCHNET_DATA") or default)
    if (folder / "mnist").is_dir():
        folder /= "mnist"
    absent = [name for name in MNIST_FILES if not (folder / name).is_file()]
    if absent:
        pytest.skip(f"no {', '.join(absent)} in {folder} (SCRATCHNET_DATA names it)")
    return folder


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk():
    """Skip fsync: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def compiled_once():
    """Compile the source once, for every process that a test starts.

    Python does this anyway, unless PYTHONDONTWRITEBYTECODE is set.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not sys.dont_write_bytecode:
            yield
            return
        with tempfile.TemporaryDirectory() as folder:
            patch.setenv("PYTHONPYCACHEPREFIX", folder)
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            yield
