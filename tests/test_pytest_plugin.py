"""The pytest plugin, in sessions of pytest as a user starts them."""

import re
import xml.etree.ElementTree as ElementTree
from importlib.metadata import entry_points
from pathlib import Path

import hypothesis.extra.numpy
import pytest

import scratchnet.testing

pytest_plugins = ["pytester"]

# A process can load NumPy only once: here, for all sessions in this process.
LOADED = (hypothesis.extra.numpy, scratchnet.testing)
ROOT = str(Path(__file__).parents[1])
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

def test_report_of_imported():
    report = scratchnet.testing.gradcheck((f, wrong), W, raise_exception=False)
    assert report

def test_imported():
    scratchnet.testing.gradcheck((f, wrong), W)  # the line of the caller

def test_several(gradcheck):
    gradcheck((f, lambda W: -right(W)), -W, raise_exception=False)
    gradcheck((f, wrong), W, 1, 7, "auto", (), False)
    gradcheck((f, right), W)

def test_unused():
    pass

class GradientError(AssertionError):
    pass

def test_not_ours():
    raise GradientError("another library")
"""
MESSAGE = "gradcheck: WRONG  d f/d W[0, 1]"


@pytest.fixture
def session(pytester, monkeypatch):
    """Return a function that runs pytest on a file of tests; it returns the output."""
    monkeypatch.delenv("CI", raising=False)  # pytest cuts the summary, unless in CI
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONPATH", ROOT, prepend=":")

    def run(*options, tests=TESTS, status=None, alone=False):
        pytester.makepyfile(test_user=tests)
        plugin = [] if INSTALLED else ["-p", "scratchnet._pytest"]
        start = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
        found = start("-q", *plugin, "-p", "no:cacheprovider", *options)
        if status is not None:
            assert found.ret == status
        return found.stdout.str() + found.stderr.str()

    return run


def properties(file):
    """Return the properties of each test in JUnit's XML."""
    return {
        case.get("name"): {
            p.get("name"): p.get("value")
            for p in case.iter("property")
            if p.get("name").startswith("gradcheck.")
        }
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
        assert f"FAILED test_user.py::{test} - {MESSAGE}\n" in printed
    assert re.search(r"E +analytic +8\n", printed)
    # of the fixture's failure alone
    assert printed.count("repeat it with --gradcheck-seed=0") == 1


def test_an_assertion_shows_the_report_once(session):
    printed = session("-k", "test_report", status=1)
    assert printed.count(f"E       assert {MESSAGE}\n") == 2
    assert printed.count("analytic   8\n") == 2
    assert "where" not in printed
    for test in ("test_report", "test_report_of_imported"):
        assert f"FAILED test_user.py::{test} - assert gradcheck: WRONG" in printed


def test_an_error_of_the_same_name_is_shown_as_pytest_does(session):
    printed = session("-k", "test_not_ours", status=1)
    assert "- test_user.GradientError: another library\n" in printed


WRONG = {
    "gradcheck.verdict": "wrong", "gradcheck.ok": "False", "gradcheck.seed": "7",
    "gradcheck.input": "W", "gradcheck.index": "(0, 1)",
    "gradcheck.mistake": "factor",
}  # fmt: skip


def test_the_verdict_becomes_properties_in_junit(session, pytester):
    session("--junit-xml=out.xml", "--gradcheck-seed=7", status=1)
    found = properties(pytester.path / "out.xml")
    assert found["test_right"] == {
        "gradcheck.verdict": "pass", "gradcheck.ok": "True", "gradcheck.seed": "7",
    }  # fmt: skip
    assert found["test_wrong"] == WRONG
    assert found["test_several"] == WRONG  # the last one that failed
    assert found["test_unused"] == found["test_imported"] == {}


def test_workers_share_a_random_seed_and_return_the_properties(session, pytester):
    pytest.importorskip("xdist")
    options = ["--junit-xml=out.xml", "--gradcheck-seed=random", "-n", "2"]
    tests = "right or wrong or report"  # the first two run in one worker
    printed = session(*options, "-k", tests, status=1, alone=True)
    found = properties(pytester.path / "out.xml")
    used = [found[f"test_{name}"] for name in ("right", "wrong", "report")]
    assert len({p.pop("gradcheck.seed") for p in used}) == 1
    assert found["test_wrong"].items() <= WRONG.items()
    assert len(found["test_wrong"]) == 5
    assert f"FAILED test_user.py::test_wrong - {MESSAGE}\n" in printed


SEEDS = """
import numpy as np

def test_seed(gradcheck, request):
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


def test_with_hypothesis_the_report_of_the_smallest_example_is_shown(session, pytester):
    printed = session("--junit-xml=out.xml", tests=HYPOTHESIS, status=1)
    assert "1 failed, 1 passed" in printed
    assert re.search(r"(Falsifying example|Failing test case): test_wrong\(", printed)
    assert "gradcheck: WRONG  d f/d x[0]\n" in printed
    assert "worst of 1 entries" in printed  # shrunk to one entry
    found = properties(pytester.path / "out.xml")
    assert found["test_wrong"]["gradcheck.index"] == "(0,)"  # of that example
    assert found["test_right"]["gradcheck.verdict"] == "pass"


UNUSED = """
import sys

def ours():
    names = {name for name in sys.modules if name.startswith("scratchnet.")}
    return names - {"scratchnet._pytest"}

def test_nothing_is_loaded():
    assert "numpy" not in sys.modules
    assert not ours()

def test_the_fixture_loads_it_before_the_test(gradcheck):
    assert "scratchnet.testing" in ours()
"""


def test_a_session_that_does_not_use_it_loads_nothing(session):
    options = ["--durations=0", "-vv", "-k", "nothing"]
    printed = session(*options, tests=UNUSED, status=0, alone=True)
    assert "1 passed" in printed
    assert "gradcheck" not in printed


def test_it_loads_the_checker_before_the_first_call(session):
    printed = session("-k", "fixture", tests=UNUSED, status=0, alone=True)
    assert "1 passed" in printed
