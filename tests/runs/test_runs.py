"""Runs on disk: no file of anybody is lost, and runs are not mixed."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from scratchnet import backend, byhand, plots
from scratchnet.backend import openblas
from scratchnet.cli import train
from scratchnet.kernels import schedules
from scratchnet.runs.files import Folder
from scratchnet.runs.identity import is_name
from scratchnet.runs.lock import LOCK
from scratchnet.training import checkpoint, fit, fit_gan
from tests.commands import files, idx, write_data

OLD = Path(__file__).parent / "old_runs"
SMALL = "--hidden 3 --code 2 --batch-size 5 --epochs 2"
GAN = "--hidden 3 --noise 2 --batch-size 4 --steps 2"
VAE = f"train vae --data data {SMALL} --seed 3 --save-every 0"


def outcome(folder):
    """Return weights and history of a run, without times."""
    weights, _ = checkpoint.load(Path(folder) / "weights.npz")
    history = json.loads((Path(folder) / "history.json").read_text("utf-8"))
    return {k: a.tobytes() for k, a in weights.items()}, history["losses"]


def change(path, **changed):
    """Change facts in a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, **changed}), "utf-8")


# --- Other people's files -----------------------------------------------------------


def test_no_command_changes_other_peoples_files(run, stopped, here):
    mine = {
        "checkpoints/best.pt": b"x", "checkpoints/00000003.npz": b"also mine",
        "notes.txt": b"", "sub/weights.npz": b"y", "plane.PNG": b"z",
    }  # fmt: skip
    for name, content in mine.items():
        path = here / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    checkpoint.save(here / "p/checkpoints/00000005.npz", {"a": np.ones(2)}, mine=True)
    mine = files("p")
    for command in (
        f"{VAE} --out p", f"{VAE} --out p --overwrite --seed 4",
        "train vae --resume p --epochs 3", "encode p", "sample p", "reconstruct p",
        f"{VAE} --out p --overwrite",
    ):  # fmt: skip
        if "--resume" in command:  # a state from an unknown writer is refused
            (here / "p/checkpoints/00000005.npz").unlink()
            del mine["checkpoints/00000005.npz"]
        status, _, err = run(command)
        assert status == 0, err
        assert {k: v for k, v in files("p").items() if k in mine} == mine
    stopped(f"{VAE} --out p --overwrite")
    run(f"{VAE} --out p --overwrite")
    assert {k: v for k, v in files("p").items() if k in mine} == mine
    own = set(files("p")) - set(mine)
    assert {name for name in own if not name.endswith(".npz")} == {
        "run.json", "history.json", "reconstructions.png", "samples.png", "loss.png",
        "plane.png", "codes.png",
    }  # fmt: skip
    assert sum(name.startswith("checkpoints/") for name in own) == 1


@pytest.mark.parametrize(
    "name", ["weights.npz", "history.json", "codes.png", "checkpoints"]
)
def test_a_file_that_would_be_written_over_is_refused(run, here, name):
    (here / "p").mkdir()
    (here / "p" / name).write_bytes(b"mine")
    before = files("p")
    status, _, err = run(f"{VAE} --out p")
    assert status == 1
    assert f"p: {name} would be overwritten" in err
    assert files("p") == before
    # A code of one number cannot be drawn in a plane.
    if name == "codes.png":
        assert run(f"{VAE} --code 1 --out p")[0] == 0


def test_results_of_other_commands_are_protected_too(run, here):
    assert run(f"{VAE} --out p")[0] == 0
    before = files("p")
    for command, name in [
        ("sample p", "sample.png"), ("reconstruct p", "reconstruct.png"),
        ("encode p", "codes.csv"),
    ]:  # fmt: skip
        (here / "p" / name).write_bytes(b"mine")
        status, _, err = run(command)
        assert (status, (here / "p" / name).read_bytes()) == (1, b"mine"), err
        (here / "p" / name).unlink()
        assert run(command)[0] == run(command)[0] == 0
    for name in ("p/weights.npz", "p/../p/weights.npz"):
        status, _, err = run(f"encode p --out {name}")
        assert (status, "is part of the run" in err) == (1, True)
    assert {k: v for k, v in files("p").items() if k in before and k != "run.json"} == {
        k: v for k, v in before.items() if k != "run.json"
    }
    # The listed files are deleted with the run that is replaced.
    assert run(f"{VAE} --out p --overwrite")[0] == 0
    assert "sample.png" not in files("p")


@pytest.mark.parametrize(
    "options",
    ["--out ''", "--resume ''", "--data ''", "--seed -1", "--seed 1.5",
     f"--epochs {'9' * 400}", f"--seed {'9' * 5000}", "--overwrite --resume p",
     "--resume p --out q"],
)  # fmt: skip
def test_options_that_are_refused(run, here, options):
    status, _, err = run(f"train vae {options}")
    assert status in (1, 2)
    assert f"--{shlex.split(options)[0].strip('-')}" in err
    assert sorted(files(here)) == sorted(f"data/{name}" for name in files("data"))


# --- Existing runs ------------------------------------------------------------------


def test_a_finished_run_is_replaced_only_with_overwrite(run):
    assert run(f"{VAE} --out p")[0] == 0
    before = files("p")
    for command in (f"{VAE} --out p", f"{VAE} --lr 1 --out p", "train gan --out p"):
        status, _, err = run(command)
        assert (status, "--overwrite" in err) == (1, True)
        assert files("p") == before
    # A run that cannot be trained replaces nothing.
    for wrong in ("--lr nan", "--batch-size 99", "--data none", "--beta -1"):
        assert run(f"{VAE} --out p --overwrite {wrong}")[0] == 1
        assert files("p") == before
    assert (
        run("train gan --data data --steps 2 --batch-size 4 --out p --overwrite")[0]
        == 0
    )
    assert "plane.png" not in files("p")
    assert "game.png" in files("p")


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_failure_before_the_first_state_leaves_no_files(run, here):
    for wrong in (
        "--batch-size 1000", "--lr nan", "--lr 1e30", "--beta nan", "--examples 99",
        "--data nowhere",
    ):  # fmt: skip
        status, _, err = run(f"{VAE} --save-every 60 --out new/p {wrong}")
        assert status == 1, err
        assert not (here / "new").exists()
    assert run(f"{VAE} --out new/p")[0] == 0


def test_an_interrupted_run_is_protected_and_one_without_a_state_is_not(run, stopped):
    stopped(f"{VAE} --out p")
    before = files("p")
    status, _, err = run(f"{VAE} --out p --lr 1e-4")
    assert (
        status,
        "unfinished run is in this folder; resume it with --resume p" in err,
    ) == (
        1,
        True,
    )
    assert files("p") == before
    for path in Path("p/checkpoints").glob("*.npz"):
        path.unlink()
    assert run(f"{VAE} --out p --lr 1e-4")[0] == 0


# --- Resume -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--seed 4", "--seed was 4, not 3"),
        ("--lr 1e-4", "--lr was 0.0001, not 0.002"),
        ("--beta 2", "--beta was 2.0, not 1.0"),
        ("--activation tanh", "--activation was 'tanh', not 'relu'"),
        ("--hidden 4", "--hidden was [4], not [3]"),
        ("--batch-size 4", "--batch-size was 4, not 5"),
        ("--engine autograd", "--engine was 'autograd', not 'byhand'"),
        ("--examples 11", "its images were different"),
        ("--data other", "its images were different"),
        ("--data wide", "its images were 2 x 8, not 4 x 4"),
    ],
)
@pytest.mark.parametrize("place", ["newest", "99999999"])
def test_a_state_of_another_run_is_refused(run, stopped, here, options, said, place):
    write_data(here / "other", add=1)
    write_data(here / "wide", 2, 8)
    stopped(f"{VAE} --out a")
    stopped(f"{VAE} {options} --out b")
    states = sorted(Path("a/checkpoints").glob("*.npz"))
    to = states[-1] if place == "newest" else Path(f"a/checkpoints/{place}.npz")
    shutil.copy(sorted(Path("b/checkpoints").glob("*.npz"))[-1], to)
    before = files("a")
    status, _, err = run("train vae --resume a")
    assert (status, said in err, str(to) in err) == (1, True, True), err
    assert files("a") == before


def test_a_state_of_another_system_or_of_none_is_refused(run, stopped):
    stopped(f"{VAE} --out a")
    stopped(f"{VAE.replace('vae', 'iwae')} --out b")
    to = sorted(Path("a/checkpoints").glob("*.npz"))[-1]
    shutil.copy(sorted(Path("b/checkpoints").glob("*.npz"))[-1], to)
    assert "it trains iwae, not vae" in run("train vae --resume a")[2]
    checkpoint.save(to, {"a": np.ones(3)}, epoch=4)
    assert f"{to}: damaged" in run("train vae --resume a")[2]
    arrays, facts = checkpoint.load(sorted(Path("b/checkpoints").glob("*.npz"))[-1])
    arrays["model.encoder.0.W"][0] = np.nan
    checkpoint.save(sorted(Path("b/checkpoints").glob("*.npz"))[-1], arrays, **facts)
    assert (
        "model.encoder.0.W has values that are not finite"
        in run("train iwae --resume b")[2]
    )


def test_the_printed_command_works(run, stopped, monkeypatch):
    for name in ("a b/it's $HOME", "-p", "안개"):
        err = stopped(f"{VAE} {shlex.quote(f'--out={name}')}")
        line = err.splitlines()[-1].strip()
        assert line.startswith("python -m scratchnet train vae --resume ")
        assert run(line.removeprefix("python -m scratchnet "))[0] == 0


def test_a_finished_run_is_extended(run, stopped):
    assert run(f"{VAE} --out a")[0] == 0
    shutil.copytree("a", "b")
    for wrong in ("", "--epochs 2", "--epochs 1"):
        status, _, err = run(f"train vae --resume a {wrong}")
        assert (status, "the run is finished, with 2 epochs; to extend it" in err) == (
            1,
            True,
        )
    status, out, _ = run("train vae --resume a --epochs 5")
    assert status == 0
    assert "epochs: 2 before, 5 now; the learning rate now follows the schedule" in out
    (state,) = Path("a/checkpoints").glob("*.npz")
    arrays, _ = checkpoint.load(state)
    assert arrays["optimizer.t"] == 15  # 3 steps an epoch
    rate = schedules.hold_then_decay(2e-3, 15)
    assert arrays["optimizer.lr"] == rate(14)
    (_, first), (_, losses) = outcome("b"), outcome("a")
    assert (len(losses), losses[:2]) == (5, first)
    assert json.loads(Path("a/run.json").read_text())["extended"] == [[2, 5]]
    # The same with an interruption.
    stopped("train vae --resume b --epochs 5 --save-every 0", 4)
    assert run("train vae --resume b")[0] == 0
    assert outcome("a") == outcome("b")
    # Also a run that is not finished.
    stopped(f"{VAE} --out c", 2)
    assert run("train vae --resume c --epochs 3")[0] == 0
    assert len(outcome("c")[1]) == 3


@pytest.mark.parametrize("system", ["stacked", "gan"])
def test_other_systems_are_extended_too(run, stopped, system):
    command = (
        "train stacked --data data --hidden 5 3 --code 2 --batch-size 5 --epochs 2"
    )
    length = "epochs"
    if system == "gan":
        command = "train gan --data data --hidden 3 --noise 2 --batch-size 4 --steps 2"
        length = "steps"
    assert run(f"{command} --out a")[0] == 0
    assert run(f"train {system} --resume a --{length} 1")[0] == 1
    assert run(f"train {system} --resume a --{length} 4")[0] == 0
    history = json.loads(Path("a/history.json").read_text("utf-8"))
    assert len(history["v" if system == "gan" else "losses"]) == 4
    assert run(f"train {system} --resume a --{length} 6")[0] == 0


def test_two_commands_at_once(run, stopped, here):
    stopped(f"{VAE} --out p")
    before = files("p")
    with Folder(here / "p").locked():
        for command in (
            f"{VAE} --out p",
            "train vae --resume p",
            f"{VAE} --out p --overwrite",
        ):
            status, _, err = run(command)
            assert status == 1
            assert f"process {os.getpid()} on " in err
    assert files("p") == before
    assert run("train vae --resume p")[0] == 0
    # The file of a dead process is not a lock.
    (here / "q").mkdir()
    (here / "q" / LOCK).write_text("process 1 on another machine")
    assert run(f"{VAE} --out q")[0] == 0
    assert LOCK not in files("q")


def test_a_lock_ends_with_its_process(here):
    code = "from scratchnet.runs import Folder; from pathlib import Path; import time\n"
    code += "with Folder(Path('p')).locked(): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"process {child.pid} on"):
            with Folder(here / "p").locked():
                pass
        child.kill()
    with Folder(here / "p").locked():
        pass
    assert files("p") == {}


# --- Errors of the disk -------------------------------------------------------------


def test_a_full_disk_names_the_file_and_how_to_resume(run, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", full)
        status, _, err = run(f"{VAE} --out p")
    assert status == 1
    assert "No space left on device: 'p/history.json'" in err
    assert err.splitlines()[-1] == "  python -m scratchnet train vae --resume p"
    assert run("train vae --resume p")[0] == 0
    assert run(f"{VAE} --out q")[0] == 0
    assert outcome("p") == outcome("q")


def test_the_error_of_a_write_names_its_file(here, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.npz'"):
        checkpoint.save(here / "a.npz", {})
    assert sorted(path.name for path in here.iterdir()) == ["data"]


# --- Not files ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
@pytest.mark.parametrize(
    "name", ["run.json", "weights.npz", "checkpoints/00000099.npz"]
)
def test_only_plain_files_are_read(run, stopped, name, kind):
    stopped(f"{VAE} --out p")
    path = Path("p") / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)
    assert run("sample p")[0] == 1
    status = run("train vae --resume p")[0]
    # If a state cannot be read, the one before is used. The results of a run replace
    # what has their names.
    assert status == int(
        name == "run.json" or (name, kind) == ("weights.npz", "folder")
    )


DAMAGE = {
    "no JSON": "{", "a list": "[]", "deep": "[" * 100_000, "not UTF-8": b"\xff\xfe",
    "empty": "", "long": " " * 2_000_000 + "{}",
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_json(run, stopped, content):
    stopped(f"{VAE} --out p")
    path = Path("p/run.json")
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = files("p")
    for command in ("train vae --resume p", f"{VAE} --out p --overwrite"):
        status, _, err = run(command)
        assert status == 1
        assert "p/run.json: damaged" in err
        assert files("p") == before


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 99}, {"format": True}, {"system": ["vae"]}, {"system": "rnn"},
        {"options": []}, {"files": ["../data"]}, {"files": "data"}, {"id": 3},
        {"shape": [0, 4]}, {"finished": 1}, {"threads": 10**400}, {"extended": [1]},
        {"data": "x"}, {"data": None},
    ],
    ids=str,
)  # fmt: skip
def test_facts_of_a_run_json_that_are_wrong(run, stopped, changed):
    stopped(f"{VAE} --out p")
    change(Path("p/run.json"), **changed)
    before = files("p")
    status, _, err = run("train vae --resume p")
    assert status == 1
    assert err.count("\n") == 1
    assert "p" in err
    assert files("p") == before


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 0}, {"lr": "nan"}, {"lr": [1]}, {"seed": 10**400}, {"hidden": 3},
        {"hidden": ["--lr"]}, {"data": ["x"]}, {"epochs": True}, {"decoder": "none"},
        {"k": 3}, {"beta": float("inf")}, {"code": 2.5}, {"engine": None},
    ],
    ids=str,
)  # fmt: skip
def test_options_of_a_run_json_that_are_wrong(run, stopped, changed):
    stopped(f"{VAE} --out p")
    path = Path("p/run.json")
    options = json.loads(path.read_text("utf-8"))["options"]
    change(path, options=options | changed)
    status, _, err = run("train vae --resume p")
    assert status == 1
    assert f"p: the options of its run are damaged ({next(iter(changed))}" in err or (
        "missing or unknown: k" in err or "argument --" in err
    )
    assert err.count("\n") == 1


def test_names_that_lead_out_of_the_folder():
    assert is_name("weights.npz")
    for name in ("", ".", "..", "a/b", "..\\x", "c:x", "a\0", 3, None, "x" * 5000):
        assert not is_name(name)


def test_wrong_facts_about_the_model_in_weights_are_refused(run, here):
    assert run(f"{VAE} --out p")[0] == 0
    path = here / "p" / "weights.npz"
    weights, facts = checkpoint.load(path)
    for changed in (
        {"sizes": [784, 10**6, 2]}, {"sizes": [10**200, 2]}, {"sizes": [16, 3, 10**9]},
        {"sizes": [16.5, 3, 2]}, {"sizes": [-16, 3, 2]}, {"sizes": None},
    ):  # fmt: skip
        checkpoint.save(path, weights, **{**facts, "model": facts["model"] | changed})
        tracemalloc.start()
        try:
            status, _, err = run("sample p")
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()
        assert (status, "p/weights.npz: damaged (" in err) == (1, True)
    for value in (np.nan, np.inf):
        bad = {**weights, "encoder.0.b": np.full(3, value, np.float32)}
        checkpoint.save(path, bad, **facts)
        assert "encoder.0.b has values that are not finite" in run("sample p")[2]
    for changed in ({"shape": [2, 9]}, {"shape": 16}, {"shape": [16]}, {"held_out": 3},
                    {"options": facts["options"] | {"seed": -1}}):  # fmt: skip
        checkpoint.save(path, weights, **(facts | changed))
        assert "p/weights.npz: damaged (" in run("encode p")[2]


def test_draws_of_an_iwae_are_bounded_too(run):
    assert run(f"{VAE.replace('vae', 'iwae')} --k 2 --out p")[0] == 0
    weights, facts = checkpoint.load("p/weights.npz")
    facts["model"]["k"] = 10**9
    checkpoint.save("p/weights.npz", weights, **facts)
    assert "damaged (k is 1000000000; at most 10000)" in run("sample p")[2]


# --- Images and data ----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(14, 56), (3, 7), (1, 1), (8, 2)])
@pytest.mark.parametrize("system", ["autoencoder", "denoising", "vae", "gan"])
def test_pictures_have_the_shape_of_the_images(run, here, monkeypatch, shape, system):
    shown = []

    def look(x, *args, **kwargs):
        shown.extend(
            np.asarray(a) for a in (x.values() if isinstance(x, dict) else [x])
        )

    for name in ("picture_rows", "sheets", "code_plane"):
        monkeypatch.setattr(plots, name, look)
    write_data(here / "images", *shape)
    code = "1" if shape == (1, 1) else "2"
    options = f"--hidden 3 --code {code} --batch-size 4 --epochs 1"
    if system == "gan":
        options = "--hidden 3 --noise 2 --batch-size 4 --steps 2"
    status, _, err = run(f"train {system} --data images {options} --out p")
    assert status == 0, err
    if system in ("vae", "gan"):
        assert run("sample p")[0] == 0
    if system != "gan":
        assert run("reconstruct p")[0] == 0
    assert len(shown) > 2
    assert {a.shape[1:] for a in shown} == {shape}


def test_images_of_another_shape_are_refused(run, here):
    write_data(here / "wide", 2, 8)
    mixed = shutil.copytree(here / "data", here / "mixed")
    for part in ("images-idx3", "labels-idx1"):
        shutil.copy(here / "wide" / f"t10k-{part}-ubyte", mixed)
    status, _, err = run("train vae --data mixed --out p")
    assert (status, "are 2 x 8; 4 x 4 expected" in err) == (1, True)
    assert run(f"{VAE} --out p")[0] == 0
    for command in ("encode", "reconstruct"):
        status, _, err = run(f"{command} p --data wide")
        assert (status, "are 2 x 8; 4 x 4 expected" in err) == (1, True)


def test_the_data_of_a_run_are_found_from_any_folder(run, here, monkeypatch):
    assert run(f"{VAE} --out p")[0] == 0
    assert run("encode p --out here.csv")[0] == 0
    elsewhere = here / "elsewhere"
    write_data(elsewhere / "data", add=5)
    monkeypatch.chdir(elsewhere)
    assert run("encode ../p --out there.csv")[0] == 0
    assert Path("there.csv").read_bytes() == (here / "here.csv").read_bytes()
    # Other data in place of the run's own.
    shutil.rmtree(here / "data")
    assert "data: " in run("encode ../p")[2]
    shutil.copytree("data", here / "data")
    for command in ("encode ../p", "reconstruct ../p"):
        status, _, err = run(command)
        assert (status, "the images have changed since" in err) == (1, True)
    assert run("encode ../p --data ../data")[0] == 0
    assert (
        run("train vae --resume ../p --epochs 3")[2].count("its images were different")
        == 1
    )


def test_data_that_were_moved_can_be_named(run, stopped, here):
    stopped(f"{VAE} --out p")
    shutil.move(here / "data", here / "moved")
    assert run("train vae --resume p")[0] == 1
    assert run("train vae --resume p --data moved")[0] == 0


def test_where_pca_is_exact_there_is_no_ratio(run, here):
    constant = write_data(here / "constant")
    for split, n in (("train", 12), ("t10k", 8)):
        images = np.full((n, 4, 4), 77, np.uint8)
        (constant / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
    for data, code in (("constant", 2), ("data", 12)):
        options = f"--hidden 3 --code {code} --batch-size 5 --epochs 1"
        for system in ("autoencoder", "stacked"):
            command = f"train {system} --data {data} {options} --out {system}{code}"
            status, out, err = run(command)
            assert status == 0, err
            assert re.search(r"PCA 0\.00, PCA is exact$", out.strip())


# --- Runs of older versions ---------------------------------------------------------


def copied(here, version, kind):
    return shutil.copytree(OLD / version / kind, here / kind)


@pytest.mark.filterwarnings("ignore:.*the last bits may differ")
@pytest.mark.parametrize("version", ["1", "2"])
def test_an_unfinished_run_of_an_older_format_is_resumed(run, here, version):
    old = copied(here, version, "unfinished")
    status, _, err = run("train vae --resume unfinished --data data")
    assert status == 0, err
    # Trained by that version without an interruption.
    history = (OLD / version / "finished" / "history.json").read_text("utf-8")
    np.testing.assert_allclose(
        outcome(old)[1], json.loads(history)["losses"], rtol=1e-4
    )
    assert not (old / "checkpoints" / "run.json").exists()
    assert len(list((old / "checkpoints").iterdir())) == 1
    assert run("train vae --resume unfinished --epochs 6")[0] == 0
    assert len(outcome(old)[1]) == 6


@pytest.mark.filterwarnings("ignore:.*the last bits may differ")
def test_a_finished_run_of_format_2_is_used_and_extended(run, here):
    old = copied(here, "2", "finished")
    assert run("sample finished")[0] == 0
    assert "/data: not a readable folder" in run("encode finished")[2]
    for command in ("encode finished", "reconstruct finished",
                    "train vae --resume finished --epochs 6"):  # fmt: skip
        status, _, err = run(f"{command} --data data")
        assert status == 0, err
    assert len(outcome(old)[1]) == 6


@pytest.mark.parametrize("name", ["unfinished", "finished"])
def test_runs_of_format_1_are_protected(run, here, name):
    old = copied(here, "1", name)
    before = files(old)
    assert "--overwrite" in run(f"{VAE} --out {name}")[2]
    assert "--seed was 3, not 4" in run(f"train vae --resume {name} --seed 4")[2] or (
        name == "finished"
    )
    assert files(old) == before
    assert run(f"{VAE} --out {name} --overwrite")[0] == 0
    assert len(outcome(old)[1]) == 2


def test_a_finished_run_of_format_1_says_what_it_lacks(run, here):
    copied(here, "1", "finished")
    for command, said in [
        ("sample finished", "this run has format 1, without the shape of its images"),
        ("encode finished", "without the full path of 'data'; pass --data"),
        ("train vae --resume finished --epochs 9", "run of format 1 has no state"),
    ]:
        status, _, err = run(command)
        assert (status, said in err) == (1, True), err
    assert run("encode finished --data data")[0] == 0
    assert run("reconstruct finished --data data")[0] == 0


# --- Streams ------------------------------------------------------------------------


def started(command, **environment):
    """Start a command in a new process."""
    return subprocess.Popen(
        ["sh", "-c", command.replace("scratchnet", f"{sys.executable} -m scratchnet")],
        stdout=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip


def test_no_stderr_an_ascii_console_and_a_missing_window(here):
    command = f"scratchnet train gan --data data {GAN} --out 안개 2>&-"
    with started(command, PYTHONIOENCODING="ascii", MPLBACKEND="nonsense") as child:
        out = child.stdout.read().decode("ascii")
    assert child.returncode == 0
    assert out.startswith("pictures in ??: samples.png")
    assert "squared Fr?chet distance" in out
    assert (here / "안개" / "game.png").read_bytes().startswith(b"\x89PNG")


def test_a_reader_that_has_closed_the_pipe(here):
    with started(f"scratchnet train gan --data data {GAN} --out p 2>&1") as child:
        child.stdout.close()
    assert child.returncode == 128 + signal.SIGPIPE
    assert json.loads((here / "p" / "run.json").read_text("utf-8"))["finished"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- 2>&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed(here, closed):
    with started(f"scratchnet train gan --data data {GAN} --out p {closed}") as child:
        child.stdout.read()
    assert child.returncode == 0
    assert (here / "p" / "game.png").read_bytes().startswith(b"\x89PNG")


def test_fit_without_a_stderr(monkeypatch):
    x = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    rngs = [np.random.default_rng(i) for i in range(3)]
    monkeypatch.setattr(sys, "stderr", None)
    model = byhand.Autoencoder((4, 2), rng=rngs[0], batch_size=10)
    fit(model, x, epochs=1, batch_size=10, rng=rngs[1])
    gan = byhand.GAN((2, 4), (4, 1), rng=rngs[0], batch_size=10)
    fit_gan(gan, x, steps=2, batch_size=10, rng=rngs[1], noise=rngs[2])


# --- Labels, threads ----------------------------------------------------------------


@pytest.mark.parametrize("labels", ["none", "letters", "many"])
def test_labels_are_for_pictures_only(run, here, labels):
    folder = write_data(here / "letters", labels=labels != "none")
    if labels != "none":
        for split, n in (("train", 12), ("t10k", 8)):
            label = np.arange(n).astype(np.uint8) * (2 if labels == "letters" else 20)
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(label + 1))
    for system in ("autoencoder", "denoising", "vae"):
        command = f"train {system} --data letters {SMALL} --out {system}"
        assert run(command)[0] == 0, system
        for use in ("encode", "reconstruct"):
            status, _, err = run(f"{use} {system}")
            assert status == 0, err
    header, *rows = Path("vae/codes.csv").read_text("utf-8").splitlines()
    assert (header, len(rows)) == ("z0,z1" if labels == "none" else "label,z0,z1", 8)
    assert run("encode vae --out codes.npz")[0] == 0
    with np.load("codes.npz") as saved:
        assert ("label" in saved) == (labels != "none")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(7, np.uint8)))
    assert "7 labels for the 8 images" in run("encode vae")[2]


@pytest.mark.skipif(backend.threads() is None, reason="another BLAS than OpenBLAS")
def test_a_run_records_its_threads_and_reuses_them(run, stopped, monkeypatch):
    before = backend.threads()
    monkeypatch.setattr(backend, "threads_for", lambda n: 1 if n < 1000 else 2)
    monkeypatch.setattr(openblas, "cores", lambda: 2)
    used = []
    monkeypatch.setattr(
        train,
        "fit",
        lambda *a, **k: used.append(backend.threads()) or fit(*a, **k),
    )
    stopped(f"{VAE} --out small")
    stopped(f"{VAE} --batch-size 8 --hidden 30 --out large")
    monkeypatch.setattr(backend, "threads_for", lambda n: 1)
    for name, n in (("small", 1), ("large", 2)):
        assert json.loads(Path(f"{name}/run.json").read_text("utf-8"))["threads"] == n
        status, _, err = run(f"train vae --resume {name}")
        assert (status, err) == (0, "")  # no warning about the number of threads
    assert used == [1, 2, 1, 2]
    assert backend.threads() == before
