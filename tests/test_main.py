"""The command line, from its arguments to its files and its exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchnet import __version__, checkpoint, tensor
from scratchnet.__main__ import main

SMALL = "train autoencoder --examples 300 --hidden 32 --code 4 --epochs 2 --seed 3"


def run(capsys, command):
    status = main(command.split())
    out, err = capsys.readouterr()
    return status, out, err


def test_training_writes_what_it_says(tmp_path, capsys):
    status, out, err = run(capsys, f"{SMALL} --out {tmp_path}/ae")
    assert status == 0
    assert err == ""  # no terminal, no progress bar
    *_, pictures, result = out.splitlines()
    for name in ("reconstructions.png", "loss.png", "codes.png"):
        assert name in pictures
        assert (tmp_path / "ae" / name).read_bytes().startswith(b"\x89PNG")
    assert result.startswith("squared error per held-out image, 4 numbers each: ")
    weights, about = checkpoint.load(tmp_path / "ae" / "weights.npz")
    assert about["model"]["sizes"] == [784, 32, 4]
    assert weights["encoder.0.W"].shape == (784, 32)
    history = json.loads((tmp_path / "ae" / "history.json").read_text())
    assert len(history["losses"]) == len(history["validation_losses"]) == 2
    assert history["losses"][1] < history["losses"][0]


def test_both_engines_and_equal_seeds_agree_and_other_seeds_do_not(tmp_path, capsys):
    results = {}
    for name, options in {
        "byhand": "--engine byhand",
        "again": "--engine byhand",
        "autograd": "--engine autograd",
        "other": "--engine byhand --seed 4",
    }.items():
        run(capsys, f"{SMALL} {options} --out {tmp_path}/{name}")
        results[name], _ = checkpoint.load(tmp_path / name / "weights.npz")
    for key, W in results["byhand"].items():
        np.testing.assert_array_equal(results["again"][key], W)
        # float32, 6 steps; float64 to 1e-10 is test_autoencoder.py's matter
        np.testing.assert_allclose(results["autograd"][key], W, rtol=1e-3, atol=1e-5)
    W = "encoder.0.W"
    assert not np.allclose(results["other"][W], results["byhand"][W])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data nowhere", "nowhere"),
        ("--lr -1", "lr"),
        ("--batch-size 301", "batch_size"),
        ("--code 800", "800"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(tmp_path, capsys, options, message):
    status, _, err = run(capsys, f"{SMALL} {options} --out {tmp_path}/ae")
    assert status == 1
    assert err.startswith("scratchnet: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("options", ["--epochs 0", "--code x", "--engine gpu"])
def test_arguments_that_are_none_are_refused(tmp_path, capsys, options):
    with pytest.raises(SystemExit) as stopped:
        main(f"{SMALL} {options}".split())
    assert stopped.value.code == 2


def test_the_module_runs_and_says_its_version():
    command = [sys.executable, "-W", "error", "-m", "scratchnet", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def table_of(monkeypatch, **rows):
    """Let the command see only these rows: a function's name, and its rule or None."""
    functions = {getattr(np, name): row for name, row in rows.items()}
    table = {f: tensor.TABLE[f] for f in functions}
    monkeypatch.setattr("scratchnet.__main__.TABLE", table)
    for f, derivative in functions.items():
        if derivative is not None:
            monkeypatch.setattr(table[f], "rules", (derivative,))


def test_gradcheck_prints_a_verdict_for_each_row(monkeypatch, capsys):
    table_of(monkeypatch, tanh=None, argmax=None, sum=None)
    status, out, _ = run(capsys, "gradcheck")
    assert status == 0
    *rows, result = out.splitlines()
    assert [line.split()[:2] for line in rows] == [
        ["np.argmax", "constant"],
        ["np.sum", "pass"],
        ["np.tanh", "pass"],
    ]
    assert result == "3 rows: 1 constant, 2 pass"


def test_gradcheck_finds_a_wrong_rule_and_names_it(monkeypatch, capsys):
    table_of(monkeypatch, tanh=lambda g, y, x: g * (1 - y), exp=None)
    status, out, _ = run(capsys, "gradcheck")
    assert status == 1
    assert "np.tanh                      wrong" in out
    assert "rule: np.tanh, argument 0" in out
    assert out.splitlines()[-1] == "2 rows: 1 pass, 1 wrong"


def test_gradcheck_says_which_rows_it_has_no_call_for(monkeypatch, capsys):
    table_of(monkeypatch, tanh=None)
    monkeypatch.setattr("scratchnet.__main__.CASES", {})
    status, out, _ = run(capsys, "gradcheck")
    assert status == 1
    assert "not checked" in out


@pytest.mark.data
def test_real_mnist_from_a_folder(tmp_path, capsys):
    root = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("SCRATCHNET_DATA", root)) / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST's files are not in {folder}")
    command = f"{SMALL} --data {folder} --examples 5000 --epochs 5 --out {tmp_path}/ae"
    status, out, _ = run(capsys, command)
    assert status == 0
    assert float(out.split()[-1]) < 1  # the autoencoder wins
