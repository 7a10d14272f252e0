"""train --resume: runs that were interrupted from outside, and errors."""

import json
import random
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from scratchnet.cli.main import main
from scratchnet.runs import images
from scratchnet.training import checkpoint, state
from tests.commands import draw_nothing, run_command, stop_after

COMMON = "--examples 200 --batch-size 50 --seed 3 --save-every 0"
RUNS = {
    "autoencoder": "train autoencoder --hidden 16 --code 4 --epochs 3",
    "stacked": "train stacked --hidden 16 8 --code 4 --pretrain 2 --epochs 2",
    "denoising": "train denoising --hidden 16 --code 8 --epochs 3",
    "vae": "train vae --hidden 16 --code 2 --epochs 3",
    "iwae": "train iwae --hidden 16 --code 4 --k 3 --epochs 3",
    "gan": "train gan --noise 4 --hidden 16 --steps 8 --ema 0.5 --packing 2",
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Hold fewer images out, and draw no pictures."""
    monkeypatch.setattr(images, "SYNTHETIC", {"drawn": (200, 50), "deer": (200, 50)})
    draw_nothing(monkeypatch)


def run(capsys, command):
    status, _, err = run_command(capsys, command)
    return status, err


def outcome(folder):
    """Return what a finished run wrote: weights, history without times, moments."""
    weights, facts = checkpoint.load(folder / "weights.npz")
    history = json.loads((folder / "history.json").read_text())
    for one in [history, *history.get("pretraining", [])]:
        one.pop("seconds", None)
    moments = (folder / "moments.npz").read_bytes()
    return weights, history, facts["options"], moments


def assert_same(one, two):
    for name, a in one[0].items():
        np.testing.assert_array_equal(a, two[0][name])
    assert one[1:] == two[1:]


@pytest.mark.parametrize("engine", ["byhand", "autograd"])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_a_signal_stopped_is_resumed(
    tmp_path, capsys, monkeypatch, name, engine
):
    command = f"{RUNS[name]} {COMMON} --engine {engine}"
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    assert run(capsys, f"{command} --out {tmp_path / 'whole'}") == (0, "")
    out = tmp_path / "run"
    for steps, number in [(3, signal.SIGTERM), (4, signal.SIGINT)]:
        stop_after(monkeypatch, steps, number)
        how = f"--resume {out}" if (out / "run.json").exists() else f"--out {out}"
        status, err = run(capsys, f"{command if steps == 3 else f'train {name}'} {how}")
        assert status == 128 + number
        assert "scratchnet: stopped; the state is in" in err
        assert f"  python -m scratchnet train {name} --resume {out}\n" in err
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert run(capsys, f"train {name} --resume {out}") == (0, "")
    assert_same(outcome(out), outcome(tmp_path / "whole"))
    assert len(saved(out)) == 1  # the last state is kept


def saved(out):
    return {path.name for path in (out / "checkpoints").glob("*.npz")}


def kill_and_resume(tmp_path, command, kills, seed):
    """Kill a run at random moments, resume it each time, and let it end."""
    code = (
        "from scratchnet.runs import images; images.SYNTHETIC = {'drawn': (200, 50)};"
        "import runpy; runpy.run_module('tests.commands', run_name='__main__')"
    )
    source = random.Random(seed)
    out = tmp_path / f"run{seed}"
    started = f"{command} {COMMON} --out {out}"
    again = f"train {command.split()[1]} --resume {out} --save-every 0"
    killed = 0
    while not (out / "history.json").exists():
        states = saved(out)
        begun = (out / "run.json").exists()
        child = subprocess.Popen(
            [sys.executable, "-c", code, *(again if begun else started).split()],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if killed < kills:
            before = time.monotonic()
            while saved(out) == states and child.poll() is None:
                assert time.monotonic() - before < 60
                time.sleep(0.001)
            time.sleep(source.random() * 0.03)
            if child.poll() is None:
                child.kill()
                killed += 1
        err = child.communicate()[1]
        assert child.returncode in (0, -signal.SIGKILL), err
    return outcome(out), killed


def killed_runs(tmp_path, capsys, names, kills):
    total = 0
    for seed, (name, engine) in enumerate(names):
        length = "steps" if name == "gan" else "epochs"
        command = f"{RUNS[name]} --engine {engine} --{length} 60"
        whole = tmp_path / f"whole{seed}"
        assert run(capsys, f"{command} {COMMON} --out {whole}") == (0, "")
        found, killed = kill_and_resume(tmp_path, command, kills, seed)
        assert_same(found, outcome(whole))
        total += killed
    return total


def test_killed_runs_end_as_if_uninterrupted(tmp_path, capsys):
    assert killed_runs(tmp_path, capsys, [("stacked", "byhand")], 3) == 3


@pytest.mark.slow
def test_runs_of_every_system_that_were_killed_50_times(tmp_path, capsys):
    both = [(name, engine) for name in RUNS for engine in ("byhand", "autograd")]
    assert killed_runs(tmp_path, capsys, both, 5) >= 50


@pytest.fixture
def stopped(tmp_path, capsys, monkeypatch):
    """Make a run of a VAE that was stopped."""
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        status, _ = run(capsys, f"{RUNS['vae']} {COMMON} --out {tmp_path / 'vae'}")
    assert status == 128 + signal.SIGTERM
    return tmp_path / "vae"


def test_resuming_with_other_options_names_them(stopped, capsys):
    for options, message in [
        ("--hidden 8 8", "--hidden was [16], not [8, 8]"),
        ("--examples 100", "its images were different"),
        ("--seed 4 --batch-size 50", "--seed was 3, not 4"),
        ("--lr 0.5 --k 2", None),
        ("--engine autograd", "--engine was 'byhand', not 'autograd'"),
    ]:
        if message is None:  # not an option of a VAE
            with pytest.raises(SystemExit):
                main(f"train vae {options} --resume {stopped}".split())
            capsys.readouterr()
            continue
        status, err = run(capsys, f"train vae {options} --resume {stopped}")
        assert status == 1
        assert message in err
    status, err = run(capsys, f"train iwae --resume {stopped}")
    assert (status, "it trains vae, not iwae" in err) == (1, True)
    # Equal options may be given again.
    assert run(capsys, f"train vae --code 2 --seed 3 --resume {stopped}") == (0, "")


def test_resuming_with_other_images_is_refused(stopped, capsys, monkeypatch):
    monkeypatch.setattr(images, "SYNTHETIC", {"drawn": (200, 51)})
    status, err = run(capsys, f"train vae --resume {stopped}")
    assert status == 1
    assert "its images were different" in err


def test_resuming_on_another_machine_warns(stopped, capsys, monkeypatch):
    here = checkpoint.machine()
    monkeypatch.setattr(state, "machine", lambda: {**here, "NumPy": "9.9"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, err = run(capsys, f"train vae --resume {stopped}")
    assert status == 0
    assert (
        f"scratchnet: NumPy was {np.__version__} and is now 9.9: the last bits" in err
    )


def test_a_run_that_is_not_finished_is_not_overwritten(stopped, capsys):
    before = sorted(stopped.rglob("*"))
    status, err = run(capsys, f"{RUNS['vae']} {COMMON} --out {stopped}")
    assert status == 1
    assert f"resume it with --resume {stopped}, or replace it with --overwrite" in err
    assert sorted(stopped.rglob("*")) == before


def test_resuming_needs_a_run_without_damage(stopped, capsys, tmp_path):
    status, err = run(capsys, f"train vae --resume {tmp_path / 'none'}")
    assert status == 1
    assert "there is no run in this folder" in err
    about = stopped / "run.json"
    content = json.loads(about.read_text())
    for text, message in [
        ("{", "run.json: damaged"),
        ("[]", "run.json: damaged"),
        (json.dumps(content | {"format": 99}), "written by a later version"),
        (json.dumps({k: v for k, v in content.items() if k != "data"}), "damaged"),
    ]:
        about.write_text(text)
        status, err = run(capsys, f"train vae --resume {stopped}")
        assert status == 1
        assert message in err


def test_a_run_without_a_state_starts_again(stopped, capsys, tmp_path):
    for path in (stopped / "checkpoints").glob("*.npz"):
        path.unlink()
    assert run(capsys, f"train vae --resume {stopped}") == (0, "")
    assert run(capsys, f"{RUNS['vae']} {COMMON} --out {tmp_path / 'w'}") == (0, "")
    assert_same(outcome(stopped), outcome(tmp_path / "w"))
