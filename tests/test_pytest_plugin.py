"""The pytest plugin, in sessions of pytest as a user starts them."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED = any(
    point.value == "scratchnet._pytest" for point in entry_points(group="pytest11")
)
TESTS = """
import numpy as np
import scratchnet.testing

f = lambda W: np.sum(W ** 3)
right, wrong = lambda W: 3 * W ** 2, lambda W: 2 * W ** 2
W = np.array([[1.0, 2.0], [0.5, -1.0]])

def test_right(gradcheck):
    gradcheck((f, right), W)

def test_wrong(gradcheck):
    gradcheck((f, wrong), W)  # the line of the caller
    print("not reached")

def test_report(gradcheck):
    assert gradcheck((f, wrong), W, raise_exception=False)

def test_imported():
    scratchnet.testing.gradcheck((f, wrong), W)  # the line of the caller

def test_several(gradcheck):
    gradcheck((f, wrong), W, raise_exception=False)
    gradcheck((f, right), W)

def test_unused():
    pass
"""
MESSAGE = "gradcheck: WRONG  d f/d W[0, 1]"


@pytest.fixture
def session(tmp_path):
    """Return a function that runs pytest on a file of tests; it returns the output."""

    def run(*options, tests=TESTS, status=None):
        (tmp_path / "test_user.py").write_text(tests, encoding="utf-8")
        plugin = [] if INSTALLED else ["-p", "scratchnet._pytest"]
        command = [sys.executable, "-m", "pytest", "-q", *plugin, *options]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        env = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
        found = subprocess.run(
            [*command, "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True,
            text=True, check=False,
            env=env | {"PYTHONPATH": path, "CI": "true"},
        )  # fmt: skip
        if status is not None:
            assert found.returncode == status, found.stdout + found.stderr
        return found.stdout + found.stderr

    return run


def properties(file):
    """Return the properties of each test in JUnit's XML."""
    return {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in ElementTree.parse(file).iter("testcase")
    }


def test_a_failure_shows_the_report_at_the_line_of_the_caller(session):
    printed = session("-k", "test_wrong or test_imported", status=1)
    assert "2 failed" in printed
    assert printed.count("> ") == 2  # one frame of each traceback
    assert printed.count("# the line of the caller") == 2
    assert "/testing/" not in printed
    assert "_pytest.py" not in printed
    for test in ("test_wrong", "test_imported"):
        assert f"FAILED test_user.py::{test} - {MESSAGE}" in printed
    assert re.search(r"E +analytic +8\n", printed)
    failures, _, summary = printed.partition("short test summary")
    for part in (failures, summary):  # of the fixture's failure alone
        assert part.count("repeat it with --gradcheck-seed=0") == 1


def test_an_assertion_shows_the_report(session):
    printed = session("-k", "test_report", status=1)
    assert f"FAILED test_user.py::test_report - assert {MESSAGE}" in printed


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_the_verdict_becomes_properties_in_junit(session, tmp_path, options):
    pytest.importorskip("xdist")
    session("--junit-xml=out.xml", "--gradcheck-seed=7", *options, status=1)
    found = properties(tmp_path / "out.xml")
    assert found["test_right"] == {
        "gradcheck.verdict": "pass", "gradcheck.ok": "True", "gradcheck.seed": "7",
    }  # fmt: skip
    assert found["test_wrong"] == {
        "gradcheck.verdict": "wrong", "gradcheck.ok": "False", "gradcheck.seed": "7",
        "gradcheck.input": "W", "gradcheck.index": "(0, 1)",
        "gradcheck.mistake": "factor",
    }  # fmt: skip
    assert found["test_several"] == found["test_wrong"]  # the failed check is kept
    assert found["test_unused"] == found["test_imported"] == {}


SEEDS = """
import numpy as np

def test_seed(gradcheck, request):
    seeds = []
    def f(x):
        return np.sin(x)
    report = gradcheck((f, lambda g, x: g), np.ones(3), raise_exception=False)
    print("cotangent", *report.cotangent)
    own = gradcheck((f, lambda g, x: g), np.ones(3), rng=3, raise_exception=False)
    assert "--gradcheck-seed" not in str(own)
    print("own", *own.cotangent)
"""


def test_the_seed_decides_the_check(session):
    lines = {}
    for seed in (None, "0", "3", "random"):
        options = [] if seed is None else [f"--gradcheck-seed={seed}"]
        printed = session("-s", *options, tests=SEEDS, status=0)
        lines[seed] = re.findall(r"(?:cotangent|own) (.*)", printed)
    assert lines[None][0] == lines["0"][0] != lines["3"][0]
    assert lines["3"][0] == lines["3"][1] == lines["0"][1]
    assert lines["random"][0] != lines["0"][0]


def test_the_header_shows_a_seed_that_was_given(session):
    assert "gradcheck-seed=5" in session("-v", "--gradcheck-seed=5")
    assert re.search(r"gradcheck-seed=\d+", session("-v", "--gradcheck-seed=random"))
    assert "gradcheck: --gradcheck-seed" not in session("-v", "-k", "test_right")


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", ""])
def test_another_seed_is_a_usage_error(session, seed):
    printed = session(f"--gradcheck-seed={seed}", status=4)
    assert f"--gradcheck-seed={seed}: use 0, 1, 2, ... or random" in printed


def test_workers_share_a_random_seed(session, tmp_path):
    pytest.importorskip("xdist")
    session("--junit-xml=out.xml", "--gradcheck-seed=random", "-n", "2", status=1)
    found = properties(tmp_path / "out.xml").values()
    assert len({p["gradcheck.seed"] for p in found if p}) == 1


HYPOTHESIS = """
import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

f = lambda x: np.sum(x ** 2)
points = arrays(float, st.integers(1, 4), elements=st.floats(1, 2))

@given(points)
def test_right(gradcheck, x):
    gradcheck((f, lambda x: 2 * x), x)

@given(points)
def test_wrong(gradcheck, x):
    gradcheck((f, lambda x: np.where(x > 1.5, 1.0, 2.0) * x), x)
"""


def test_with_hypothesis_the_report_of_the_smallest_example_is_shown(session):
    printed = session(tests=HYPOTHESIS, status=1)
    assert "1 failed, 1 passed" in printed
    assert re.search(r"(Falsifying example|Failing test case): test_wrong\(", printed)
    assert "gradcheck: WRONG  d f/d x[0]" in printed
    assert "worst of 1 entries" in printed  # shrunk to one entry


UNUSED = """
import sys

def test_nothing_is_loaded():
    assert "numpy" not in sys.modules
    assert not any(name.startswith("scratchnet.") for name in
                   sys.modules.keys() - {"scratchnet._pytest"})
"""


def test_a_session_that_does_not_use_it_loads_nothing(session):
    printed = session("--durations=0", "-vv", tests=UNUSED, status=0)
    assert "1 passed" in printed
    assert "gradcheck" not in printed
