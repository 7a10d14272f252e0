"""The pytest plugin: the fixture `gradcheck` and the option --gradcheck-seed.

pytest loads this file, by its entry point in setup.cfg, in every project where
scratchnet is installed. So it imports the checker only when a test uses the fixture.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Generator
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
    """Begin the line of a wrong gradient in the summary with its verdict."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash and type(error).__qualname__ == "GradientError":
        crash.message = str(error)
    return report


_RUNNING = pytest.StashKey[pytest.Item]()


@pytest.fixture(scope="session")
def gradcheck(request: pytest.FixtureRequest) -> Checker:
    """Check a gradient, as `scratchnet.testing.gradcheck`, with the seed of the option.

    The verdict, the input and the index of the worst entry become properties of the
    test, in JUnit's XML. With Hypothesis, a failing example is reported as usual.
    """
    return Checker(request.config)


class Checker:
    """`scratchnet.testing.gradcheck` for the test that runs."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def __call__(
        self, *args: Any, raise_exception: bool = True, **options: Any
    ) -> GradientReport:
        """Check a gradient; the arguments are those of `testing.gradcheck`."""
        from scratchnet import testing

        __tracebackhide__ = testing.hides
        seed = self.config.getoption("--gradcheck-seed") or 0
        repeat = ""
        if "rng" not in options and len(args) < 4:
            options["rng"] = seed
            repeat = f"repeat it with --gradcheck-seed={seed}"
        options["raise_exception"] = False
        report = testing.gradcheck(*args, **options)
        if not report and repeat:
            message = f"{report.message}\n  {repeat}"
            report = dataclasses.replace(report, message=message)
        self.record(report, options.get("rng"))
        if raise_exception:
            report.raise_if_wrong()
        return report

    def record(self, report: GradientReport, seed: object) -> None:
        """Record a check as properties of the test; a failed one is not replaced."""
        properties = self.config.stash[_RUNNING].user_properties
        if ("gradcheck.ok", "False") in properties:
            return
        kept = [p for p in properties if not p[0].startswith("gradcheck.")]
        found = {name: getattr(report, name) for name in RECORDED}
        found |= {"ok": report.ok, "seed": seed if isinstance(seed, int) else None}
        properties[:] = kept + [
            (f"gradcheck.{name}", str(value))
            for name, value in found.items()
            if value is not None
        ]
