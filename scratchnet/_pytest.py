"""The pytest plugin: the fixture `gradcheck` and the option --gradcheck-seed.

pytest loads this file, by its entry point in setup.cfg, in every project where
scratchnet is installed. So it imports the checker only when a test uses the fixture.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
import sys
from collections.abc import Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from scratchnet.testing import GradientReport

RECORDED = ("verdict", "input", "index", "mistake")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --gradcheck-seed."""
    parser.getgroup("gradcheck", "gradient checks (scratchnet)").addoption(
        "--gradcheck-seed", metavar="N|random",
        help="random seed of the fixture gradcheck: its weights and directions "
        "(default: 0)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Read the seed; the workers of pytest-xdist get that of the main process."""
    given = config.getoption("--gradcheck-seed")
    if hasattr(config, "workerinput"):
        config.option.gradcheck_seed = config.workerinput["gradcheck_seed"]
    elif given == "random":
        config.option.gradcheck_seed = random.SystemRandom().randrange(2**32)
    elif isinstance(given, str):
        if not (given.isascii() and given.isdigit()):
            raise pytest.UsageError(
                f"--gradcheck-seed={given}: use 0, 1, 2, ... or random"
            )
        config.option.gradcheck_seed = int(given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the seed to a worker of pytest-xdist."""
    node.workerinput["gradcheck_seed"] = node.config.getoption("--gradcheck-seed")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Print the seed, if it was given."""
    seed = config.getoption("--gradcheck-seed")
    return None if seed is None else f"gradcheck: --gradcheck-seed={seed}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note which test runs: the fixture serves all tests of a session."""
    item.config.stash[_RUNNING] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the message of a wrong gradient; its verdict begins the summary."""
    testing = sys.modules.get("scratchnet.testing")
    if testing is None or call.excinfo is None:
        return (yield)
    error = call.excinfo.value
    if isinstance(error, AssertionError):
        _show_once(call.excinfo, testing.GradientReport)
    report = yield
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash and isinstance(error, testing.GradientError):
        crash.message = str(error)
    return report


def _show_once(failure: pytest.ExceptionInfo[Any], kind: type[GradientReport]) -> None:
    """Show the report of `assert gradcheck(..., raise_exception=False)` once.

    pytest prints it twice, as the value and where the value is from, each time on one
    line and without its middle. The frame of the assertion has the whole report.
    """
    for entry in failure.traceback[-1:]:
        for value in entry.locals.values():
            if isinstance(value, kind):
                start = f"assert {value}".replace("\n", "\\n")[:100]
                if str(failure.value).startswith(start):
                    failure.value.args = (f"assert {value}",)


_RUNNING = pytest.StashKey[pytest.Item]()


@pytest.fixture(scope="session")
def gradcheck(request: pytest.FixtureRequest) -> Checker:
    """Check a gradient, as `scratchnet.testing.gradcheck`, with the seed of the option.

    The verdict, the input and the index of the worst entry become properties of the
    test, in JUnit's XML. With Hypothesis, a failing example is reported as usual: the
    fixture serves a whole session, and Hypothesis accepts it.
    """
    from scratchnet import testing  # here: Hypothesis limits the time of the test alone

    return Checker(request.config, testing)


class Checker:
    """`scratchnet.testing.gradcheck` for the test that runs."""

    def __init__(self, config: pytest.Config, testing: ModuleType) -> None:
        self.config, self.testing = config, testing

    def __call__(self, *args: Any, **options: Any) -> GradientReport:
        """Check a gradient; the arguments are those of `testing.gradcheck`."""
        __tracebackhide__ = self.testing.hides
        seed = self.config.getoption("--gradcheck-seed") or 0
        bound = inspect.signature(self.testing.gradcheck).bind(*args, **options)
        given = bound.arguments
        repeat = "" if "rng" in given else f"repeat it with --gradcheck-seed={seed}"
        given.setdefault("rng", seed)
        raises = given.get("raise_exception", True)
        given["raise_exception"] = False
        report: GradientReport = self.testing.gradcheck(*bound.args, **bound.kwargs)
        if not report and repeat:
            message = f"{report.message}\n  {repeat}"
            report = dataclasses.replace(report, message=message)
        self.record(report, given["rng"])
        if raises:
            report.raise_if_wrong()
        return report

    def record(self, report: GradientReport, seed: object) -> None:
        """Record a check as properties of the test: the last one, or the last failed.

        Hypothesis ends with the example that it shows.
        """
        properties = self.config.stash[_RUNNING].user_properties
        if report and ("gradcheck.ok", "False") in properties:
            return
        kept = [p for p in properties if not p[0].startswith("gradcheck.")]
        found = {name: getattr(report, name) for name in RECORDED}
        found |= {"ok": report.ok, "seed": seed if isinstance(seed, int) else None}
        properties[:] = kept + [
            (f"gradcheck.{name}", str(value))
            for name, value in found.items()
            if value is not None
        ]
