"""All rows, and the table as Markdown and JSON, with a figure of curves."""

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
    """Run the job of a row, by its name, in its own process."""
    return run(ROWS[name], seed, data, work, results, deadline, quick)


STYLES = ("o-", "s--", "D:", "^-.")  # of the curves
# Student's t for a 95 % interval, for 1, 2, ... degrees of freedom.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def standard_error(values: list[float]) -> float:
    """Return the standard error of the mean, or infinity for one value."""
    n = len(values)
    return float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


def mean_and_error(values: list[float]) -> str:
    """Return a mean as text, with its standard error if there are several seeds."""
    mean = float(np.mean(values))
    several = len(values) > 1
    error = standard_error(values)
    if several and error > 0:  # two digits of the error, the mean to the same place
        digits = max(0, 1 - math.floor(math.log10(error)))
        return f"{mean:.{digits}f} ± {error:.{digits}f}"
    text = f"{mean:.0f}" if mean.is_integer() else f"{mean:#.4g}"
    return f"{text} ± 0" if several else text


def difference(other: str, less: list[float]) -> dict[str, str]:
    """Return a row's difference from another, given the differences by seed."""
    side = "below" if np.mean(less) >= 0 else "above"
    by = less if side == "below" else [-d for d in less]
    wins = f"in {sum(d > 0 for d in by)} of {len(by)} pairs"
    return {f"{side} {other}": f"by {mean_and_error(by)}, {wins}"}


def at_least(values: list[float]) -> float:
    """Return the lower end of the 95 % interval of a mean of at least two values."""
    t = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    return float(np.mean(values)) - t * standard_error(values)


def summary(
    row: Row, found: list[dict[str, Any]], above: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the table's entries for a row with results.

    Args:
        row: the row.
        found: its results.
        above: the results of the row `row.below`.

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
        ours |= difference(row.below, less)
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
    """Return the settings of results, with their backend if it is not NumPy."""
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
    for (row, one), color, style in zip(drawn, plots.COLORS, STYLES, strict=False):
        seconds, value = np.array(one["curves"][vae.CURVE]).T
        ax.plot(seconds / 60, value, style, ms=4, color=color, label=row.about)
    ax.set_xlabel("CPU time (minutes)")
    ax.set_ylabel("−log p(x) (nats per image)")
    ax.set_title(
        f"{vae.VALIDATION} validation images of MNIST during training\n"
        f"(estimates by {vae.DRAWS // 10} importance samples; lower is better)"
    )
    ax.legend()
    return figure


def write(results: Path) -> str:
    """Write table.md, table.json and curves.png; return the table."""
    rows = [
        summary(row, found, load(results, row.below) if row.below else [])
        for row in ROWS.values()
        if (found := load(results, row.name))
    ]
    text = _page.markdown(rows)
    checkpoint.write_whole(results / "table.md", text.encode())
    content = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    checkpoint.write_whole(results / "table.json", content.encode())
    if (figure := curves(results)) is not None:
        plots.save(figure, results / "curves.png")
    return text
