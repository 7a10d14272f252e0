"""What all demos share: their options, where figures go, and claims that are checked.

A demo is a module with a docstring that says what the lecture claims, and a function
`run(demo)` that trains, measures and draws. Whatever it claims goes through
`demo.claim`, which prints the number beside what was expected of it; a demo whose
claim does not hold exits with status 1.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from scratchnet import backend, plots
from scratchnet.cli.console import from_console
from scratchnet.cli.options import name, seed

T = TypeVar("T")

# Multiply-adds of a training step's largest product: 128 rows, 784 columns by 1,000.
LARGEST_PRODUCT = 128 * 784 * 1000


class Demo:
    """One run of a demo.

    Args:
        name: names the figures: "NAME.png", "NAME-more.png".
        quick: train on little, for a first look and for CI.
        out: the folder for figures; it is made.
        seed: of everything that is drawn.

    """

    def __init__(self, name: str, quick: bool, out: Path, seed: int = 0) -> None:
        self.name = name
        self.quick = quick
        self.out = out
        self.seed = seed
        self.failed: list[str] = []
        out.mkdir(parents=True, exist_ok=True)

    def choose(self, full: T, quick: T) -> T:
        """Return what this run uses: `full`, or `quick` under --quick."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Print a line that claims nothing."""
        print(text, flush=True)

    def claim(
        self,
        what: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Print a measured number and whether it is what was claimed.

        Raises:
            ValueError: neither bound is given, so that nothing could fail.

        """
        if at_least is None and at_most is None:
            raise ValueError(f"claim: {what!r} needs at_least or at_most")
        wanted = []
        holds = True
        if at_least is not None:
            wanted.append(f"at least {at_least:.4g}")
            holds = holds and value >= at_least
        if at_most is not None:
            wanted.append(f"at most {at_most:.4g}")
            holds = holds and value <= at_most
        verdict = "holds" if holds else "FAILS"
        self.say(f"  {verdict}  {what}: {value:.4g}  ({' and '.join(wanted)})")
        if not holds:
            self.failed.append(what)

    def save(self, figure: Any, more: str = "") -> None:
        """Write a figure: NAME.png, or NAME-more.png."""
        path = self.out / f"{self.name}{'-' if more else ''}{more}.png"
        self.say(f"  figure {plots.save(figure, path)}")


def perform(module: Any, quick: bool, out: Path, seed: int, seeds: int = 0) -> bool:
    """Run the demo of a module; return whether all that it claims holds.

    With `seeds`, run from that many seeds what the module has for that.
    """
    name = module.__spec__.name.rpartition(".")[2]
    print(f"{name}: {module.__doc__.strip().splitlines()[0]}", flush=True)
    demo = Demo(name, quick, out, seed)
    began = time.perf_counter()
    if seeds:
        module.run_seeds(demo, seeds)
    else:
        module.run(demo)
    print(f"  {time.perf_counter() - began:.1f} s", flush=True)
    return not demo.failed


def folder(text: str) -> Path:
    """Read the name of a folder."""
    return Path(name(text))


def options(description: str) -> argparse.ArgumentParser:
    """Return the parser that all demos share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="train on little")
    parser.add_argument("--out", type=folder, default=Path("runs/demos"))
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument(
        "--backend", choices=backend.BACKENDS, help="where to compute (default: numpy)"
    )
    return parser


def use_backend(parser: argparse.ArgumentParser, name: str | None) -> None:
    """Compute with the backend of that name, or say in one line what is missing."""
    try:
        if name is not None:
            backend.use(name)
    except backend.BackendError as error:
        parser.error(str(error))


def use_few_threads() -> None:
    """Compute with one thread, unless the user set a number.

    The products of the demos are small, and two threads that meet after each are many
    times slower than one where another program holds a core.
    """
    backend.use_threads(backend.threads_for(LARGEST_PRODUCT))


def main(
    module_name: str, argv: Sequence[str] | None = None, *, few_threads: bool = True
) -> None:
    """Run one demo from the command line, and exit.

    Without `few_threads` NumPy's threads stay as they are.
    """
    module = sys.modules[module_name]
    parser = options(module.__doc__ or "")
    if hasattr(module, "run_seeds"):
        parser.add_argument("--seeds", type=int, default=0, help="claim the medians")
    args = parser.parse_args(argv)
    use_backend(parser, vars(args).pop("backend"))
    if few_threads:
        use_few_threads()
    sys.exit(from_console(lambda: 0 if perform(module, **vars(args)) else 1))
