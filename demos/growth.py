"""Time an autoencoder's step over its width and its minibatch, compared with PyTorch's.

The autoencoder is 784-w-w/2-64. All widths w are measured with minibatches of 128, and
all minibatches with w = 512. The figure shows the time over that of PyTorch's eager
step with its fused Adam. `python -m demos.speed --growth` runs this; speed.py says how
it measures.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from demos import speed
from demos._demo import Demo
from demos._systems import GROWING, WIDTHS
from scratchnet import plots

PEER = "torch, fused"
RIVALS = (speed.BY_HAND, speed.ENGINE, speed.BY_HAND_C, speed.ENGINE_C, PEER)
BATCHES = (32, 128, 512, 2048, 8192)
WIDTH, BATCH = 512, 128  # where the other one is varied


def run(demo: Demo) -> None:
    """Measure over the width, then over the minibatch, and report."""
    rounds, seconds = demo.choose(5, 1), demo.choose(0.4, 0.02)
    widths, batches = demo.choose(WIDTHS, (128, 512)), demo.choose(BATCHES, (32, 128))
    found = {}
    for what, values, systems, sizes in (
        ("width", widths, [GROWING[w] for w in widths], [BATCH]),
        ("minibatch", batches, [GROWING[WIDTH]], batches),
    ):
        results, apart = speed.measure(RIVALS, sizes, rounds, seconds, systems)
        for rival, reason in results.missing.items():
            demo.say(f"  without {rival}: {reason}")
        for rival, error in apart.items():
            if rival != speed.BY_HAND:
                name = f"first losses over the {what}, {rival} and by hand apart"
                demo.check(name, error, at_most=1e-3)
        found[what] = values, results
        demo.say(f"\n{speed.times_table(results)}\n")
        if results.present(PEER):
            demo.say(f"{ratios_table(what, values, results)}\n")
    demo.say(f"{speed.machine()}\n")
    path = demo.out / "growth.json"
    data = {k: json.loads(speed.to_json(r, rounds)) for k, (_, r) in found.items()}
    path.write_text(json.dumps(data, indent=1))
    demo.say(f"  data {path}")
    if all(results.present(PEER) for _, results in found.values()):
        demo.save(
            growth_figure(found),
            alt="Time of a step over PyTorch's, by the width and by the minibatch",
        )  # fmt: skip


def ratios_table(what: str, values: Sequence[int], results: speed.Results) -> str:
    """Return a table of the times over PyTorch's."""
    cells = results.cells()
    rows = [
        [f"{rival} / {PEER}",
         *(str(results.ratio(rival, (PEER,), [cell])) for cell in cells)]
        for rival in results.ms if rival != PEER
    ]  # fmt: skip
    return speed.table([what, *map(str, values)], rows)


@plots.styled
def growth_figure(found: dict[str, tuple[Sequence[int], speed.Results]]) -> Any:
    """Draw each rival's time over PyTorch's, a panel for what is varied."""
    figure, axes = plots.panels(1, 2, size=(4.2, 3.4), sharey=True)
    for ax, (values, results) in zip(axes.flat, found.values(), strict=True):
        drawn = [rival for rival in results.ms if rival != PEER]
        for i, (rival, marker) in enumerate(zip(drawn, "osD^", strict=False)):
            over = [results.ratio(rival, (PEER,), [cell]) for cell in results.cells()]
            middle = np.array([r.median for r in over])
            spread = np.abs([[r.least, r.greatest] for r in over] - middle[:, None]).T
            ax.errorbar(values, middle, yerr=spread, marker=marker, ms=4, lw=1,
                        color=plots.COLORS[i], label=speed.NAMES[rival])  # fmt: skip
        ax.axhline(1, color="black", lw=1)
        ax.set_xscale("log", base=2)
        ax.set_xticks(values, map(str, values))
        ax.minorticks_off()
    axes.flat[0].set_xlabel(f"width w (minibatch of {BATCH})")
    axes.flat[1].set_xlabel(f"samples in a minibatch (w = {WIDTH})")
    axes.flat[0].set_ylabel("time / time of PyTorch")
    figure.suptitle(
        "Time of a step of an autoencoder 784-w-w/2-64, over PyTorch, fused Adam\n"
        "(marker: median of the rounds; bar: smallest to largest)", fontsize=11,
    )  # fmt: skip
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
