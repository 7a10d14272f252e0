"""Several processes train one model, with a real MPI: the jobs of mpi_job.py."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scratchnet import byhand, models
from scratchnet.cli.main import main
from scratchnet.data.idx import read_idx
from scratchnet.optim import Adam
from scratchnet.training import checkpoint, fit
from scratchnet.training.distributed import Group, GroupError
from tests.commands import draw_nothing

JOB = "tests.training.mpi_job"
ROOT = Path(__file__).parent.parent.parent
BESIDE = Path(sys.executable).parent  # pip installs an MPI here
MPIEXEC = shutil.which("mpiexec", path=f"{BESIDE}{os.pathsep}{os.environ['PATH']}")
try:
    import mpi4py  # noqa: F401
except ImportError:
    MPIEXEC = None
needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="no mpi4py or no mpiexec")


def job(n, *command, **how):
    """Start `python -m COMMAND` in n processes."""
    return subprocess.Popen(
        [MPIEXEC, "-n", str(n), sys.executable, "-m", *command], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, **how,
    )  # fmt: skip


def end(process, timeout=120):
    """Wait for the end of a job; if it hangs, it is killed and the test fails."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


# Jobs that succeed in every process: one launch runs all of them in turn.
ALL = [
    "same", "layers", "resumed_shards", "exploding", "unguarded", "differing_kinds",
    "drifting", "differing_in_all",
]  # fmt: skip


@needs_mpi
@pytest.mark.parametrize(("n", "names"), [(2, ALL), (3, ["same"])])
def test_n_processes_compute_what_one_does(n, names):
    status, out, err = end(job(n, JOB, *names))
    assert status == 0, err  # the last "... begins" names the failed job
    assert len(out.splitlines()) == 7 * 2 * n


# Errors that end the whole job, with their messages.
FAILING = {
    "killed": ("Killed (signal 9)", "exited on signal 9"),
    "failing": ("process 1 of 2: no room for more; this ends the job",),
    "differing": ("fit: not as in process 0: model.encoder.0.W in process 1; all",),
    "surprised": ('tests/training/mpi_job.py", line ',),
}


@needs_mpi
def test_a_process_that_fails_ends_the_job():
    began = time.monotonic()
    jobs = {name: job(2, JOB, name) for name in FAILING}
    for name, process in jobs.items():
        status, out, err = end(process)
        assert status != 0, name
        assert any(one in out + err for one in FAILING[name]), (name, out + err)
    assert time.monotonic() - began < 60


NOT_ALL = "process 0 of 2 has waited 0.2 s for the others, and some are missing; start"


@needs_mpi
def test_a_missing_process_ends_the_job(tmp_path):
    """One process is without --distributed and never starts MPI, or makes no Group.

    It may run for long, or end earlier.
    """
    python = [MPIEXEC, "-n", "1", sys.executable, "-m"]
    here = [*python, *TRAIN, "1", "--out", f"{tmp_path}/here", "--distributed"]
    there = [*TRAIN, "40", "--out", f"{tmp_path}/there"]
    short = ["timeit", "-n", "1", "-r", "1", "pass"]
    environment = {"OPENBLAS_NUM_THREADS": "1", "SCRATCHNET_MPI_TIMEOUT": "0.2"}
    began = time.monotonic()
    jobs = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, **environment},
        )
        for command in ([*here, ":", *python[1:], *there],
                        [*here, ":", *python[1:], *short],
                        [MPIEXEC, "-n", "2", sys.executable, "-m", JOB, "alone"])
    ]  # fmt: skip
    for process in jobs:
        status, out, err = end(process)
        assert status != 0
        assert NOT_ALL in err, out + err
        assert "each with --distributed" in err
        assert "Traceback" not in err
    assert time.monotonic() - began < 60
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "1e300", "1 s"])
def test_a_time_limit_must_be_a_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("SCRATCHNET_MPI_TIMEOUT", text)
    said = f"Group: SCRATCHNET_MPI_TIMEOUT is {text!r}; a positive number of seconds"
    with pytest.raises(ValueError, match=said):
        Group()


@needs_mpi
def test_one_process_alone_is_a_group(monkeypatch):
    group = Group()
    assert (group.rank, group.size, group.sharded) == (0, 1, False)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(GroupError, match="mpirun started 4 processes, but MPI sees "):
        Group()


TRAIN = "scratchnet train vae --examples 300 --batch-size 50 --hidden 16 --code 4"
TRAIN = f"{TRAIN} --seed 3 --save-every 0 --epochs".split()


def outcome(folder):
    weights, _ = checkpoint.load(folder / "weights.npz")
    return weights


@needs_mpi
def test_the_command_and_its_resumption_after_a_signal(tmp_path, monkeypatch, capsys):
    """Only the first of the three jobs draws its pictures."""

    def arguments(folder):
        return [*TRAIN[1:], "4", "--out", str(tmp_path / folder)]

    draw_nothing(monkeypatch)
    assert main(arguments("alone")) == 0
    capsys.readouterr()
    status, out, err = end(job(2, "scratchnet", *arguments("two"), "--distributed"))
    assert status == 0, err
    assert out.count("pictures in") == 1  # one process prints for all
    # In float32, after 24 steps.
    for name, a in outcome(tmp_path / "alone").items():
        np.testing.assert_allclose(outcome(tmp_path / "two")[name], a, atol=2e-4)

    process = job(2, "tests.commands", *arguments("stopped"), "--distributed")
    states = tmp_path / "stopped" / "checkpoints"
    while not list(states.glob("0*.npz")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, err = end(process)
    assert status != 0
    assert "scratchnet: stopped; the state is in" in err
    again = ["train", "vae", "--distributed", "--resume", str(tmp_path / "stopped")]
    status, _, err = end(job(2, "tests.commands", *again))
    assert status == 0, err
    for name, a in outcome(tmp_path / "two").items():
        np.testing.assert_array_equal(outcome(tmp_path / "stopped")[name], a)


@needs_mpi
def test_models_that_a_group_cannot_train():
    x = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    how = {"epochs": 1, "batch_size": 10, "rng": np.random.default_rng(0)}
    model = byhand.Autoencoder((4, 2), rng=np.random.default_rng(0), batch_size=10)
    with pytest.raises(TypeError, match="group is 2; a distributed"):
        fit(model, x, **how, group=2)
    twin = models.Autoencoder((4, 2), rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match="a Autoencoder cannot be trained by several"):
        fit(twin, x, **how, optimizer=Adam(twin.parameters()), group=Group())


def test_an_error_says_that_mpi_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(GroupError, match=r"mpi4py cannot be used .*scratchnet\[mpi\]"):
        Group()


# --- Shards of files ----------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 7])
def test_shards_of_a_file_are_the_file(tmp_path, m):
    x = np.arange(7 * 6, dtype=np.uint8).reshape(7, 2, 3)
    path = tmp_path / "x"
    path.write_bytes(bytes([0, 0, 8, 3, *b"\0\0\0\7\0\0\0\2\0\0\0\3"]) + x.tobytes())
    parts = [read_idx(path, shard=(k, m)) for k in range(m)]
    assert {len(part) for part in parts} <= {7 // m, 7 // m + 1}
    np.testing.assert_array_equal(np.concatenate(parts), x)
