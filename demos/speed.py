"""The time of a training step: by hand, by the engine, and in other frameworks.

This is a benchmark, not a claim of the lecture. Every installed rival takes the same
steps (sizes, loss, Adam, float32, fresh noise) from the same weights. The demo fails if
a rival's first losses differ from those by hand. Times are printed as ratios and claim
nothing. The rivals take turns in each round, each in its own process with all cores.
The first round is not counted: caches and processors are cold. A ratio is computed
within each round; the demo shows the median, the smallest and the largest of the
rounds.

The floor is the time of the step's matrix products alone, by NumPy. Install the
rivals to compare with (torch, jax, autograd, mygrad); _rivals.py and _frameworks.py
contain their steps. With --growth, growth.py varies the width and the minibatch. With
--backend cupy, _gpu.py measures on a GPU instead.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from demos import _gpu
from demos._around import chain_times, digits_seconds, import_time, minibatch_ratio
from demos._demo import Demo, main
from demos._rivals import RIVALS
from demos._systems import NETS, SIZES, SYSTEMS, WARM_UP, noise_columns
from scratchnet import backend, byhand, plots
from scratchnet.training import checkpoint

FLOOR, BY_HAND, ENGINE = "products", "by hand", "engine"
BY_HAND_C, ENGINE_C = "by hand, C", "engine, C"  # with the backend "c"
EAGER = ("torch, default", "torch, foreach", "torch, fused")
# Longer names, for the figure.
NAMES = {
    "products, torch": "products by PyTorch", BY_HAND: "scratchnet, by hand",
    ENGINE: "scratchnet, engine", BY_HAND_C: "scratchnet, by hand in C",
    ENGINE_C: "scratchnet, engine in C", "torch, default": "PyTorch, default Adam",
    "torch, foreach": "PyTorch, foreach Adam", "torch, fused": "PyTorch, fused Adam",
    "torch.compile": "PyTorch, compiled", "JAX": "JAX, jitted",
}  # fmt: skip
PAUSE = 0.25  # s; the threads of some rivals keep a core busy after their last work

Cell = tuple[str, int]  # a system and a batch size


class Ratio(NamedTuple):
    """The median, the smallest and the largest ratio of the rounds."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}–{self.greatest:.2f})"


class Results:
    """The measured times and memory.

    Attributes:
        ms: milliseconds of a step in each round, by rival and cell.
        memory: MiB for a model and its steps with the largest batch, by rival and
            system.
        process: the largest memory of each rival's process, in MiB.
        versions: the package version of each rival.
        missing: the reason why a rival could not run.

    """

    def __init__(self) -> None:
        self.ms: dict[str, dict[Cell, list[float]]] = {}
        self.memory: dict[str, dict[str, float]] = {}
        self.process: dict[str, float] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def cells(self) -> list[Cell]:
        """Return the systems and batch sizes, in order."""
        return list(self.ms[BY_HAND])

    def median(self, rival: str, cell: Cell) -> float:
        """Return the median milliseconds of a step."""
        return float(np.median(self.ms[rival][cell]))

    def best(self, rivals: Sequence[str], cell: Cell) -> str:
        """Return the fastest of these rivals in a cell."""
        return min(rivals, key=lambda rival: self.median(rival, cell))

    def present(self, *rivals: str) -> tuple[str, ...]:
        """Return the rivals that ran."""
        return tuple(rival for rival in rivals if rival in self.ms)

    def ratio(self, rival: str, others: Sequence[str], cells: Sequence[Cell]) -> Ratio:
        """Return rival / best of the others, the geometric mean over cells."""
        logs = [
            np.log(self.ms[rival][cell])
            - np.log(self.ms[self.best(others, cell)][cell])
            for cell in cells
        ]
        rounds = np.exp(np.mean(logs, axis=0))
        return Ratio(float(np.median(rounds)), float(rounds.min()), float(rounds.max()))


# --- Measuring ----------------------------------------------------------------------


class Process:
    """A rival in its own process."""

    def __init__(self, name: str, folder: Path) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "demos._rivals", name, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip

    def ask(self, *command: Any) -> dict[str, Any]:
        """Send a command and return the answer.

        Raises:
            RuntimeError: the command failed, or the process ended.

        """
        line = ""
        with contextlib.suppress(OSError):  # the process may have ended
            print(json.dumps(command), file=self.child.stdin, flush=True)
            line = self.child.stdout.readline() if self.child.stdout else ""
        answer: dict[str, Any] = json.loads(line or '{"error": "its process ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


@contextmanager
def processes(names: Sequence[str], folder: Path) -> Iterator[dict[str, Process]]:
    """Start a process for each rival, and end all of them."""
    started = {name: Process(name, folder) for name in names}
    try:
        yield started
    finally:
        for process in started.values():
            with contextlib.suppress(OSError):
                process.child.communicate()  # closes its input, so it ends


def prepare(folder: Path, system: str, rows: int, steps: int) -> None:
    """Write the weights, samples and noise that all rivals start from."""
    rng = np.random.default_rng(0)
    model: Any
    if system == "GAN":
        model = byhand.GAN(**NETS, rng=rng)
    else:
        kind = byhand.VAE if system == "VAE" else byhand.Autoencoder
        model = kind(SIZES[system], rng=rng)
    columns = noise_columns(system)
    shape = (steps, len(columns), rows, max(columns, default=0))
    np.savez(
        folder / f"{system}.npz", x=rng.random((rows, 784), np.float32),
        noise=rng.standard_normal(shape).astype(np.float32), **model.state_dict(),
    )  # fmt: skip


def measure(
    rivals: Sequence[str],
    batches: Sequence[int],
    rounds: int,
    seconds: float,
    systems: Sequence[str] = SYSTEMS,
    pause: float = PAUSE,
) -> tuple[Results, dict[str, float]]:
    """Time every rival.

    Args:
        rivals: their names.
        batches: sizes of minibatches.
        rounds: the number of turns of each, after one that is not counted.
        seconds: the length of a turn.
        systems: the models to train.
        pause: seconds to wait before each turn, until the others are idle.

    Returns:
        The results, and for each rival the largest relative difference of its first
        losses from those by hand.

    """
    results = Results()
    apart: dict[str, float] = {}
    turns = len(systems) * len(rivals) * len(batches) * (2 + rounds)
    with (
        tempfile.TemporaryDirectory() as name,
        tqdm(total=turns, unit="turn", disable=None) as bar,
    ):
        folder = Path(name)
        for system in systems:
            prepare(folder, system, max(batches), steps=5)
            prepare(folder, WARM_UP, rows=8, steps=1)
            present = [rival for rival in rivals if rival not in results.missing]
            losses: dict[Cell, np.ndarray] = {}
            with processes(present, folder) as running:
                # All at once: most of the time is imports and compilers.
                with ThreadPoolExecutor(len(present)) as pool:
                    making = [pool.submit(make, process, system, batches)
                              for process in running.values()]  # fmt: skip
                for rival, made in zip(running, making, strict=True):
                    try:
                        answers = made.result()
                    except RuntimeError as error:
                        results.missing[rival] = str(error)
                        continue
                    results.versions[rival] = answers[0]["version"]
                    results.memory.setdefault(rival, {})[system] = answers[1]["memory"]
                    most = max(results.process.get(rival, 0), answers[1]["process"])
                    results.process[rival] = most
                    for n, answer in zip(batches[::-1], answers[1:], strict=True):
                        found = np.array(answer["losses"])
                        if not found.size:  # the floors have no loss
                            continue
                        right = losses.setdefault((system, n), found)
                        error = float(np.max(np.abs(found / right - 1)))
                        if not error <= apart.get(rival, -1.0):  # NaN is the largest
                            apart[rival] = error
                    bar.update(len(batches))
                for turn in range(1 + rounds):
                    for n in batches:
                        for rival in present:
                            if rival in results.missing:
                                continue
                            time.sleep(pause)
                            try:
                                ms = running[rival].ask("time", n, seconds)["ms"]
                            except RuntimeError as error:
                                results.missing[rival] = str(error)
                                results.ms.pop(rival, None)
                                results.memory.pop(rival, None)
                                continue
                            if turn > 0:
                                of_rival = results.ms.setdefault(rival, {})
                                of_rival.setdefault((system, n), []).append(ms)
                            bar.update()
    return results, apart


def make(process: Process, system: str, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Make a system for each batch size, the largest first."""
    hello = process.ask("hello")
    process.ask("make", WARM_UP, 8, False)
    return [hello, *(process.ask("make", system, n, True) for n in batches[::-1])]


def measure_calls(rounds: int, number: int) -> dict[str, dict[str, float]]:
    """Return the microseconds of single calls in NumPy, the engine and PyTorch."""
    found = {}
    with processes((FLOOR, ENGINE, EAGER[0]), Path()) as running:
        for rival, process in running.items():
            try:
                process.ask("hello")
            except RuntimeError:  # not installed; reported before
                continue
            time.sleep(PAUSE)
            found[rival] = process.ask("calls", rounds, number)
    return found


BUSY = [sys.executable, "-c", "while True: pass"]


def measure_crowded(rounds: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of a step alone, and with a busy loop on each core.

    It is the step of the VAE with a minibatch of 128, the median of the rounds.
    """
    found = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), "VAE", rows=128, steps=1)
        with processes((BY_HAND, BY_HAND_C, EAGER[-1]), Path(name)) as running:
            for rival, process in running.items():
                try:
                    process.ask("make", "VAE", 128, True)
                except RuntimeError:  # not installed; reported before
                    continue
                ms = []
                for loops in (0, backend.openblas.cores()):
                    others = [subprocess.Popen(BUSY) for _ in range(loops)]
                    try:
                        times = [process.ask("time", 128, seconds)["ms"]
                                 for _ in range(rounds)]  # fmt: skip
                    finally:
                        for other in others:
                            other.kill()
                            other.wait()
                    ms.append(float(np.median(times)))
                found[rival] = ms[0], ms[1]
    return found


# --- Reporting ----------------------------------------------------------------------


def machine() -> str:
    """Describe this machine."""
    facts = checkpoint.machine()
    return (
        f"{facts['processor']}, {os.cpu_count()} cores, {platform.system()}; Python "
        f"{platform.python_version()}, NumPy {facts['NumPy']} with {facts['BLAS']}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with its first column aligned to the left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(head), line(rule), *map(line, rows)])


def times_table(results: Results) -> str:
    """Return a table of the milliseconds of a step."""
    rows = [
        [f"{system}, {n}"]
        + [f"{results.median(rival, (system, n)):.2f}" for rival in results.ms]
        for system, n in results.cells()
    ]
    return table(["ms a step", *results.ms], rows)


def comparisons(results: Results) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the ratios to compute: (name, rival, the others)."""
    made = [
        (f"{rival} / {name}", rival, results.present(*others))
        for rival in results.present(BY_HAND, BY_HAND_C, ENGINE, ENGINE_C)
        for name, others in (
            ("products", (FLOOR,)),
            ("eager, default Adam", EAGER[:1]),
            ("best eager", EAGER),
            ("torch.compile", ("torch.compile",)),
            ("JAX", ("JAX",)),
        )
    ]
    return [one for one in made if one[2]]


def ratios_table(results: Results) -> str:
    """Return a table of the ratios: geometric means over the systems."""
    batches = list(dict.fromkeys(n for _, n in results.cells()))
    groups = [[c for c in results.cells() if c[1] == n] for n in batches]
    groups.append(results.cells())
    rows = [
        [name, *(str(results.ratio(rival, others, cells)) for cells in groups)]
        for name, rival, others in comparisons(results)
    ]
    return table(["geometric mean of", *map(str, batches), "all"], rows)


def memory_table(results: Results) -> str:
    """Return a table of each rival's memory in MiB, and over the best of PyTorch."""
    eager = [results.memory[rival] for rival in results.present(*EAGER)]
    rows = []
    for rival, memory in results.memory.items():
        over = [m / min(e[s] for e in eager) for s, m in memory.items() if eager]
        mean = f"{np.exp(np.mean(np.log(over))):.2f}" if over else ""
        rows.append([rival, *(f"{m:.0f}" for m in memory.values()),
                     f"{results.process[rival]:.0f}", mean])  # fmt: skip
    head = ["MiB", *SYSTEMS, "the whole process", "mean / best eager"]
    return table(head, rows)


def calls_table(calls: dict[str, dict[str, float]]) -> str:
    """Return a table of the microseconds of single calls, and of recording them."""
    names = {FLOOR: "NumPy", ENGINE: "engine", EAGER[0]: "PyTorch"}
    rows = [
        [call, *(f"{times[call]:.2f}" for times in calls.values()),
         f"{calls[ENGINE][call] - calls[FLOOR][call]:.2f}"]
        for call in calls[ENGINE]
    ]  # fmt: skip
    return table(["µs a call", *(names[k] for k in calls), "engine − NumPy"], rows)


def crowded_table(crowded: dict[str, tuple[float, float]]) -> str:
    """Return a table of the times with a busy loop on each core."""
    rows = [
        [rival, f"{alone:.2f}", f"{busy:.2f}", f"{busy / alone:.1f}"]
        for rival, (alone, busy) in crowded.items()
    ]
    head = ["ms a step, VAE, 128", "alone", "a busy loop on each core", "ratio"]
    return table(head, rows)


@plots.styled
def speed_figure(results: Results) -> Any:
    """Draw every rival's time over that of the products, a panel for each system."""
    figure, axes = plots.panels(2, 2, size=(3.4, 2.9), sharex=True, sharey=True)
    batches = list(dict.fromkeys(n for _, n in results.cells()))
    drawn = [rival for rival in results.ms if rival != FLOOR]
    for ax, system in zip(axes.flat, SYSTEMS, strict=False):
        for i, (n, marker) in enumerate(zip(batches, "osD", strict=False)):
            over = [results.ratio(rival, (FLOOR,), [(system, n)]) for rival in drawn]
            middle = np.array([r.median for r in over])
            spread = np.abs([[r.least, r.greatest] for r in over] - middle[:, None]).T
            height = np.arange(len(drawn)) + 0.25 * (i - (len(batches) - 1) / 2)
            ax.errorbar(middle, height, xerr=spread, fmt=marker, ms=4, lw=1,
                        color=plots.COLORS[i], label=f"minibatch of {n}")  # fmt: skip
        ax.axvline(1, color="black", lw=1)
        ax.set_title(system)
        ax.set_xscale("log")
        ax.grid(visible=False, axis="y")
        ax.set_yticks(range(len(drawn)), [NAMES.get(rival, rival) for rival in drawn])
    axes[0, 0].invert_yaxis()
    ticks = [2.0**k for k in range(-1, 9) if 2**k < axes[0, 0].get_xlim()[1]]
    axes[0, 0].set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes[0, 0].minorticks_off()
    for ax in axes[1]:
        ax.set_xlabel("time / time of the products")
    figure.suptitle(
        "Time of a training step, relative to its matrix products by NumPy\n"
        "(marker: median of the rounds; bar: smallest to largest)", fontsize=11,
    )  # fmt: skip
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(batches))
    return figure


def to_json(results: Results, rounds: int) -> str:
    """Return the results as JSON, which `from_json` reads."""
    ms: dict[str, Any] = {}
    for rival, cells in results.ms.items():
        for (system, n), rounds_of in cells.items():
            ms.setdefault(rival, {}).setdefault(system, {})[str(n)] = rounds_of
    content = {
        "machine": machine(), "rounds": rounds, "ms": ms, "memory": results.memory,
        "process": results.process, "versions": results.versions,
        "missing": results.missing,
    }  # fmt: skip
    return json.dumps(content, indent=1)


def from_json(text: str) -> Results:
    """Return results that `to_json` wrote: enough for the tables and the figure."""
    content = json.loads(text)
    results = Results()
    results.ms = {
        rival: {
            (system, int(n)): ms
            for system, batches in systems.items()
            for n, ms in batches.items()
        }
        for rival, systems in content["ms"].items()
    }
    for name in ("memory", "process", "versions", "missing"):
        setattr(results, name, content[name])
    return results


def run(demo: Demo) -> None:
    """Measure, check that all rivals do the same work, and report."""
    if not backend.on_host():
        _gpu.run(demo)
        return
    rounds = demo.choose(5, 1)
    rivals = [name for name in RIVALS if not demo.quick or name != "torch.compile"]
    results, apart = measure(
        rivals, demo.choose((32, 128, 512), (32,)), rounds, demo.choose(0.4, 0.02)
    )
    for rival, reason in results.missing.items():
        demo.say(f"  without {rival}: {reason}")
    for rival, error in apart.items():
        if rival != BY_HAND:
            demo.check(f"first losses, {rival} and by hand apart", error, at_most=1e-3)
    demo.say(f"\n{machine()}\n\n{times_table(results)}\n\n{ratios_table(results)}\n")
    demo.say(f"{memory_table(results)}\n")
    demo.say(f"{calls_table(measure_calls(demo.choose(7, 1), 2000))}\n")
    crowded = measure_crowded(demo.choose(7, 1), demo.choose(0.3, 0.02))
    demo.say(f"{crowded_table(crowded)}\n")
    around(demo)
    path = demo.out / "speed.json"
    path.write_text(to_json(results, rounds))
    demo.say(f"  data {path}")
    demo.save(
        speed_figure(results),
        alt="Time of a step over that of its products, by system, minibatch and rival",
    )


def around(demo: Demo) -> None:
    """Report the overhead outside a step."""
    lengths = demo.choose((25_000, 50_000, 100_000, 200_000), (1000, 2000))
    each = ", ".join(f"{t:.1f}" for t in chain_times(lengths))
    demo.say(f"  backward() of a chain of {lengths} operations: {each} µs for each")
    numpy, more = import_time(demo.choose(11, 1))
    demo.say(f"  import numpy: {numpy:.0f} ms, the engine: {more:.0f} ms more")
    ratio = minibatch_ratio(demo.choose(60_000, 2000), demo.choose(5, 1))
    demo.say(f"  shuffled minibatches of 128: {ratio:.2f} times as long as copying")
    n = demo.choose(60_000, 600)
    demo.say(f"  {n:,} digits drawn in {digits_seconds(n):.1f} s")


if __name__ == "__main__":
    from demos import growth

    main(__name__, seeds=False, others={"growth": growth})
