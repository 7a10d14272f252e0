"""What all demos share: their options, where figures go, and claims that are checked.

A demo is a module with a docstring that says what the lecture claims, and a function
`run(demo)` that trains, measures and draws. Each number goes through `demo.claim`, next
to the simplest thing that could explain it: the claim fails if its number misses the
bound, and also if that baseline meets it. A demo whose claim fails exits with status 1.
"""

import argparse
import contextlib
import importlib
import io
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from demos._claim import Claim
from demos._page import page
from scratchnet import backend, plots
from scratchnet.cli.console import from_console
from scratchnet.cli.options import name, positive, seed

T = TypeVar("T")

# Multiply-adds of a training step's largest product: 128 rows, 784 columns by 1,000.
LARGEST_PRODUCT = 128 * 784 * 1000


class Demo:
    """One run of a demo.

    Args:
        name: names the figures: "NAME.png", "NAME-more.png".
        quick: train on little, for a first look and for CI.
        out: the folder for figures; it is made.
        seed: the random seed.
        draws: write the figures.

    """

    def __init__(
        self, name: str, quick: bool, out: Path, seed: int = 0, draws: bool = True
    ) -> None:
        self.name = name
        self.quick = quick
        self.out = out
        self.seed = seed
        self.draws = draws
        self.claims: list[Claim] = []
        self.figures: dict[str, str] = {}
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
        baseline: Mapping[str, float],
        tried: str = "",
    ) -> None:
        """Print a number, and whether it meets its bound where a baseline does not.

        Args:
            what: the quantity and its unit; the same text for every seed.
            value: the number.
            at_least: the least value that supports the claim.
            at_most: the largest value that supports the claim.
            baseline: what the simplest things that could explain the number get: a
                constant, the mean, a linear map, chance: {"the mean picture": 18.6}.
            tried: of a target that is missed after real tries: what was tried. The
                number is kept, and does not fail the demo.

        Raises:
            ValueError: there is no bound or no baseline, so that nothing could fail.

        """
        if not baseline:
            raise ValueError(f"claim: {what!r} needs a baseline")
        self._judge(Claim(what, value, at_least, at_most, dict(baseline), tried))

    def check(self, what: str, value: float, *, at_most: float) -> None:
        """Print how far two computations of one number are apart, and judge that.

        Nothing simpler could explain their agreement, so there is no baseline.
        """
        self._judge(Claim(what, value, at_most=at_most))

    def measure(self, what: str, value: float) -> None:
        """Print a number that claims nothing, and keep it for the table."""
        self.claims.append(Claim(what, value))
        self.say(f"         {self.claims[-1]}")

    def save(self, figure: Any, more: str = "", *, alt: str = "") -> None:
        """Write a figure: NAME.png, or NAME-more.png.

        Args:
            figure: a figure of matplotlib.
            more: distinguishes the figures of a demo.
            alt: one sentence that says what one sees.

        """
        file = f"{self.name}{'-' if more else ''}{more}.png"
        self.figures[file] = alt
        if self.draws:
            self.say(f"  figure {plots.save(figure, self.out / file)}")

    def _judge(self, claim: Claim) -> None:
        """Print a claim with its verdict, and keep it."""
        if not claim.bounded:
            raise ValueError(f"claim: {claim.what!r} needs at_least or at_most")
        self.claims.append(claim)
        holds, fails = ("met", "MISSED") if claim.tried else ("holds", "FAILS")
        self.say(f"  {holds if claim.holds else fails}  {claim}")

    @property
    def failed(self) -> list[str]:
        """The quantities whose claims do not hold; missed targets are not failures."""
        return [
            claim.what
            for claim in self.claims
            if claim.bounded and not claim.tried and not claim.holds
        ]


def perform(module: Any, quick: bool, out: Path, seed: int) -> bool:
    """Run the demo of a module; return whether all that it claims holds."""
    print(f"{_name(module)}: {_title(module)}", flush=True)
    demo = Demo(_name(module), quick, out, seed)
    began = time.perf_counter()
    module.run(demo)
    print(f"  {time.perf_counter() - began:.1f} s", flush=True)
    return not demo.failed


def perform_seeds(
    module: Any, quick: bool, out: Path, seed: int, seeds: int, jobs: int, by: str
) -> bool:
    """Run a demo from several seeds, `jobs` at once, and write its page, NAME.md.

    Args:
        module: of the demo.
        quick: train on little.
        out: the folder for the page and the figures, which the first seed draws.
        seed: the first seed.
        seeds: how many.
        jobs: how many processes.
        by: the name of the backend.

    Returns:
        Whether every claim holds for every seed.

    """
    name = _name(module)
    print(f"{name}: {_title(module)}", flush=True)
    # More threads than cores would wait for each other, and the bars would overprint.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        runs = [
            pool.submit(
                _one_seed, module.__spec__.name, quick, out, seed + i, i == 0, by
            )
            for i in range(seeds)
        ]
        demos = []
        for run in runs:
            demo, printed = run.result()
            demos.append(demo)
            print(f"seed {demo.seed}\n{printed}", end="", flush=True)
    command = f"python -m demos.{name} --seeds {seeds} --out {shlex.quote(str(out))}"
    text = page(
        name,
        module.__doc__,
        command + " --quick" * quick + f" --seed {seed}" * (seed > 0),
        time.perf_counter() - began,
        [demo.claims for demo in demos],
        demos[0].figures,
    )
    path = out / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    print(f"  page {path}", flush=True)
    return not any(demo.failed for demo in demos)


def _one_seed(
    module: str, quick: bool, out: Path, seed: int, draws: bool, by: str
) -> tuple[Demo, str]:
    """Run a demo from one seed; return what it claimed, and what it printed.

    Runs in a process of its own.
    """
    backend.use(by)
    demo = Demo(module.rpartition(".")[2], quick, out, seed, draws)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        importlib.import_module(module).run(demo)
    return demo, printed.getvalue()


def _name(module: Any) -> str:
    """Return the name of a demo: that of its file, also when it is run as a command."""
    return str(module.__spec__.name.rpartition(".")[2])


def _title(module: Any) -> str:
    """Return the first line of a demo's docstring."""
    return str(module.__doc__.strip().splitlines()[0])


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
    parser.add_argument("--seed", type=seed, default=0, help="the random seed")
    parser.add_argument(
        "--backend", choices=backend.BACKENDS, help="where to compute (default: numpy)"
    )
    return parser


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Add the options for a run from several seeds."""
    parser.add_argument(
        "--seeds",
        type=positive,
        help="run from that many seeds and write a page with medians and ranges",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=os.cpu_count(),
        help="seeds to run at once (default: the number of cores)",
    )


def run_module(module: Any, args: argparse.Namespace) -> bool:
    """Run a demo as the command line says; return whether all that it claims holds."""
    if args.seeds is None:
        return perform(module, args.quick, args.out, args.seed)
    return perform_seeds(
        module, args.quick, args.out, args.seed, args.seeds, args.jobs, backend.name()
    )


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
    module_name: str,
    argv: Sequence[str] | None = None,
    *,
    few_threads: bool = True,
    seeds: bool = True,
    others: Mapping[str, Any] | None = None,
) -> None:
    """Run one demo from the command line, and exit.

    Without `few_threads` NumPy's threads stay as they are. A benchmark has no `seeds`.
    `others` are modules that options of these names run instead.
    """
    module = sys.modules[module_name]
    parser = options(module.__doc__ or "")
    for option, other in (others or {}).items():
        what = (other.__doc__ or "").partition(".")[0]
        parser.add_argument(f"--{option}", action="store_const", dest="module",
                            const=other, default=module, help=what)  # fmt: skip
    if seeds:
        add_seeds(parser)
    else:
        parser.set_defaults(seeds=None)
    args = parser.parse_args(argv)
    chosen = getattr(args, "module", module)
    use_backend(parser, args.backend)
    if few_threads:
        use_few_threads()
    sys.exit(from_console(lambda: 0 if run_module(chosen, args) else 1))
