"""All rows of the table, and the table: Markdown, JSON, and curves as a figure."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from demos.papers import _page, autoencoder, denoising, gan, mixtures, vae
from demos.papers._jobs import Row, computed_by, load, run
from scratchnet import plots
from scratchnet.training import checkpoint

RESULTS = Path(__file__).parent.parent / "papers_results"
MODULES = (autoencoder, denoising, vae, gan, mixtures)
ROWS: dict[str, Row] = {row.name: row for module in MODULES for row in module.ROWS}


def work_on(
    name: str, seed: int, data: Path | None, work: Path, results: Path,
    deadline: float, quick: bool,
) -> str:  # fmt: skip
    """Run a job by its row's name, in a process of its own."""
    return run(ROWS[name], seed, data, work, results, deadline, quick)


# Student's t: a mean is within this times its standard error in 95 of 100 cases, by
# degrees of freedom, from 1 on.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def standard_error(values: list[float]) -> float:
    """Return the standard error of the mean; of one value it is not known."""
    n = len(values)
    return float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


def mean_and_error(values: list[float]) -> str:
    """Return a mean with its standard error over seeds, if there are several."""
    mean = float(np.mean(values))
    several = len(values) > 1
    error = standard_error(values)
    if several and error > 0:  # two digits of it, and the mean as exactly
        digits = max(0, 1 - math.floor(math.log10(error)))
        return f"{mean:.{digits}f} ± {error:.{digits}f}"
    text = f"{mean:.0f}" if mean.is_integer() else f"{mean:#.4g}"
    return f"{text} ± 0" if several else text


def beside(other: str, less: list[float]) -> dict[str, str]:
    """Return how far a row is below another or above it, given what it is less."""
    side = "below" if np.mean(less) >= 0 else "above"
    by = less if side == "below" else [-d for d in less]
    wins = f"in {sum(d > 0 for d in by)} of {len(by)} pairs"
    return {f"{side} {other}": f"by {mean_and_error(by)}, {wins}"}


def at_least(values: list[float]) -> float:
    """Return the lower end of the 95 % interval of a mean, of two or more values."""
    t = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    return float(np.mean(values)) - t * standard_error(values)


def summary(
    row: Row, found: list[dict[str, Any]], above: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the table says of a row that has results.

    Args:
        row: which.
        found: its results.
        above: those of the row that it is to be below.

    """
    names = list(found[0]["metrics"])
    values = {k: [one["metrics"][k] for one in found] for k in names}
    ours = {k: mean_and_error(v) for k, v in values.items()}
    minutes = float(np.mean([one["seconds"] for one in found])) / 60
    means = {k: float(np.mean(v)) for k, v in values.items()}
    means |= {"": means[names[0]], "CPU min": minutes}
    of_seed = {one["seed"]: one["metrics"][names[0]] for one in above}
    less = [of_seed[one["seed"]] - one["metrics"][names[0]]
            for one in found if one["seed"] in of_seed]  # fmt: skip
    if less:
        ours |= beside(row.below, less)
    if len(less) > 1:
        means[f"below {row.below}"] = at_least(less)
    return {
        "row": row.name, "about": row.about, "metric": row.metric, "paper": row.paper,
        "aims": {str(aim): aim.met(means[aim.metric]) for aim in row.aims
                 if aim.metric in means or aim.metric != f"below {row.below}"},
        "seeds": len(found), "ours": ours,
        "CPU minutes": round(minutes, 1), "table": row.table,
        "settings": settings(found), "departures": row.departures, "tried": row.tried,
    }  # fmt: skip


def settings(found: list[dict[str, Any]]) -> str:
    """Return the settings of results, with the backend if it is not NumPy."""
    where = {one.get("machine", {}).get("backend", "numpy") for one in found}
    return computed_by(found[0]["settings"], where)


@plots.styled
def curves(results: Path) -> Any | None:
    """Draw −log p(x) of validation images against CPU time, for VAE and IWAE."""
    drawn = [
        (row, one)
        for row in vae.ROWS
        for one in load(results, row.name)
        if len(one["curves"].get(vae.CURVE, [])) > 1
    ]
    if not drawn:
        return None
    figure, axes = plots.panels(1, 1, (6.4, 4.0))
    ax = axes[0, 0]
    for i, (row, one) in enumerate(drawn):
        seconds, value = np.array(one["curves"][vae.CURVE]).T
        color = plots.COLORS[i % len(plots.COLORS)]
        ax.plot(seconds / 60, value, "o-", ms=3, color=color, label=row.name)
    ax.set_xlabel("CPU minutes")
    ax.set_ylabel("−log p(x), nats")
    ax.set_title(f"{vae.VALIDATION} validation images, {vae.DRAWS // 10} samples each")
    ax.legend()
    return figure


OURS = "ours, each training (bar: standard error over test images, where known)"


@plots.styled
def against_papers(results: Path) -> Any | None:
    """Draw each training's result beside the paper's number, row by row.

    Where a standard error over test images is known, a bar shows it.
    """
    drawn = [
        (row, [one["metrics"] for one in found])
        for row in ROWS.values()
        if row.paper
        and any(aim.metric == "" for aim in row.aims)
        and (found := load(results, row.name))
    ]
    if not drawn:
        return None
    figure, axes = plots.panels(len(drawn), 1, (6.4, 0.62 + 0.6 / len(drawn)))
    for ax, (row, metrics) in zip(axes[:, 0], drawn, strict=True):
        ours = [next(iter(one.values())) for one in metrics]
        errors = [one.get("its standard error", 0) for one in metrics]
        theirs = float(row.paper.split()[0].rstrip(","))
        better = next(aim.sign for aim in row.aims if aim.metric == "")
        arrow = "← better" if better == "≤" else "better →"
        ax.axvline(theirs, color=plots.COLORS[1], lw=2, label="the paper")
        ax.errorbar(ours, np.zeros(len(ours)), xerr=errors, fmt="o", alpha=0.6,
                    color=plots.COLORS[0], label=OURS)  # fmt: skip
        ax.margins(x=0.2)
        ax.set_yticks([])
        ax.set_ylabel(row.name, rotation=0, ha="right", va="center")
        ax.text(1.02, 0.5, f"{row.metric}\n{arrow}", va="center", fontsize="small",
                transform=ax.transAxes)  # fmt: skip
    axes[0, 0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.1))
    return figure


def write(results: Path) -> str:
    """Write table.md, table.json and the figures; return the table."""
    rows = [
        summary(row, found, load(results, row.below) if row.below else [])
        for row in ROWS.values()
        if (found := load(results, row.name))
    ]
    text = _page.markdown(rows)
    checkpoint.write_whole(results / "table.md", text.encode())
    content = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    checkpoint.write_whole(results / "table.json", content.encode())
    for name, draw in {"curves": curves, "table": against_papers}.items():
        if (figure := draw(results)) is not None:
            plots.save(figure, results / f"{name}.png")
    return text
