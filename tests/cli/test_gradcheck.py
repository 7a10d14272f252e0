"""The command `gradcheck`: its targets, its output and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from scratchnet.cli.main import main

CHECKS = """
import numpy as np

x = np.array([0.5, 2.0])
f = lambda x: np.sum(x ** 3)

def right():
    return (f, lambda x: 3 * x ** 2), x

def wrong():
    return (f, lambda x: x ** 2), x

def with_options():
    return {"f": lambda x: (f(x), 3 * x ** 2), "inputs": x, "jac": True, "rng": 5}

def draws():
    vjp = lambda g, x: g * np.cos(x)
    def noted(g, x):
        print("cotangent", *g)
        return vjp(g, x)
    return {"f": (np.sin, noted), "inputs": x, "rng": 5, "raise_exception": True}

def float32_only():
    def g(x):
        assert x.dtype == np.float32
        return np.sum(x * x)
    return (g, lambda x: 2 * x), x

def nothing():
    return f

def only_the_pair():
    return f, lambda x: 3 * x ** 2

def leaves():
    raise SystemExit(0)

def inputs_missing():
    return {"f": f}

def misuse():
    return 3, x

def broken():
    def g(x):
        raise RuntimeError("an error of f")
    return (g, g), x

value = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with a module of checks."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "checks.py").write_text(CHECKS)
    (tmp_path / "own" / "needs.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "own"]:
        del sys.modules[name]


def status(*arguments):
    return main(["gradcheck", *arguments])


def test_a_right_gradient_exits_with_0(capsys):
    assert status("own.checks:right") == 0
    assert capsys.readouterr().out.startswith("gradcheck: pass  d f/d (x)")


def test_a_wrong_gradient_exits_with_1(capsys):
    assert status("own.checks:wrong") == 1
    out = capsys.readouterr().out
    assert out.startswith("gradcheck: WRONG  d f/d x[1]\n")
    assert "it is 1/3 of the right gradient" in out


def test_several_targets_are_all_checked(capsys):
    names = ["own.checks:wrong", "own.checks:right", "own.checks:with_options"]
    assert status(*names) == 1
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert [line.partition(": ")[0] for line in heads] == names


def test_the_options_are_those_of_the_checker(capsys):
    assert status("own.checks:float32_only") == 2
    assert "AssertionError" in capsys.readouterr().err
    assert status("own.checks:float32_only", "--dtype", "float32") == 0
    assert "float32 only" in capsys.readouterr().out
    assert status("own.checks:right", "--seed", "4", "--seconds", "60") == 0
    capsys.readouterr()
    assert status("own.checks:right", "--order", "2") == 2
    assert "order=2" in capsys.readouterr().err


def test_an_option_of_the_command_replaces_that_of_the_dict(capsys):
    def cotangent(*options):
        assert status("own.checks:draws", *options) == 0
        return capsys.readouterr().out.splitlines()[0]

    assert cotangent() == cotangent("--seed", "5") != cotangent("--seed", "0")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own.checks", "use package.module:function"),
        (":right", "use package.module:function"),
        ("own.checks:", "use package.module:function"),
        (".checks:right", "use package.module:function"),
        ("own.absent:right", "there is no module own.absent"),
        ("absent.checks:right", "there is no module absent"),
        ("own.checks:absent", "own.checks has no function absent"),
        ("own.checks:value", "own.checks has no function value"),
        ("own.checks:nothing", "nothing() must return (f, inputs)"),
        ("own.checks:only_the_pair", "must return (f, inputs)"),
        ("own.checks:inputs_missing", "must return (f, inputs)"),
        ("own.checks:misuse", "f must be a function"),
    ],
)
def test_a_wrong_target_is_one_line_and_exits_with_2(capsys, target, message):
    assert status(target) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"scratchnet: {target}: ")
    assert message in printed.err


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("own.needs:right", "No module named 'no_such_package'"),
        ("own.checks:broken", "RuntimeError: an error of f"),
        ("own.checks:leaves", "SystemExit: 0"),
    ],
)
def test_an_error_of_the_users_code_is_shown_as_it_is(capsys, target, error):
    assert status(target) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert error in printed


def test_the_command_runs_in_the_current_folder():
    found = subprocess.run(
        [sys.executable, "-m", "scratchnet", "gradcheck", "own.checks:wrong"],
        capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr == ""
    assert "WRONG" in found.stdout
