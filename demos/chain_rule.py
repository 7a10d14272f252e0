"""A gradient is the chain rule, walked once from the result back to the inputs.

The lecture says what a network learns, and takes it for granted how ("실제 데이터로
분류할 만큼 유사한 데이터를 생성할 수 있도록 생성네트워크 학습", the generator is
trained until its data pass for real). This is how, on the smallest expression in which
one value is used twice,

    L = (s - y)²,   s = tanh(a) · a,   a = w·x + b.

Drawn: the graph that the engine recorded, the derivative on each edge, the gradient at
each node, and the order in which the walk back takes them. Measured: that this walk,
`backward()` and finite differences agree, and what comes of another order. a hears
from s and from h = tanh(a). Taken before it has heard from both, it can

- never hand on what comes late: the gradient is wrong;
- hand on its sum again when more comes: wrong, what came first counts again;
- hand on each arrival by itself: right, but every value that is used twice doubles the
  work behind it.

Newest first is a topological order, and there nothing comes late.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import Tensor, backend, plots
from scratchnet.table import name_of

X, Y = 2.0, 1.0  # the data: no gradient is asked for
START = {"w": 0.4, "b": -0.3}
STEP = 1e-5  # of the finite differences
GATES = 10  # in a row, each uses its input twice

# How a value came about, and each derivative as a formula, for trace and picture.
FORMULA = {"L": "e²", "e": "s − y", "s": "h · a", "h": "tanh a", "a": "p + b",
           "p": "w · x"}  # fmt: skip
DERIVATIVE = {("L", "e"): "2e", ("e", "s"): "1", ("s", "h"): "a", ("s", "a"): "h",
              ("h", "a"): "1 − h²", ("a", "p"): "1", ("a", "b"): "1",
              ("p", "w"): "x"}  # fmt: skip


# --- The expression -----------------------------------------------------------------


def expression(w: Any, b: Any) -> dict[str, Any]:
    """Compute L and all that it is made of, by name, from Tensors or numbers."""
    p = w * X
    a = p + b
    h = np.tanh(a)
    s = h * a
    e = s - Y
    return {"w": w, "b": b, "p": p, "a": a, "h": h, "s": s, "e": e, "L": np.square(e)}


def recorded() -> dict[str, Tensor]:
    """Return the expression as the engine records it, each Tensor named."""
    leaves = {k: Tensor(np.array(v), requires_grad=True) for k, v in START.items()}
    graph = expression(**leaves)
    for name, t in graph.items():
        t.name = name
    return graph


def gates(n: int) -> Tensor:
    """Return the result of n gates in a row, a = tanh(a) · a."""
    a = Tensor(np.array(1.5), requires_grad=True)
    for _ in range(n):
        a = np.tanh(a) * a
    return a


def finite_differences() -> dict[str, float]:
    """Return dL/dw and dL/db as central differences, in which no rule has a part."""
    slopes = {}
    for name in START:
        right = expression(**(START | {name: START[name] + STEP}))["L"]
        left = expression(**(START | {name: START[name] - STEP}))["L"]
        slopes[name] = float(right - left) / (2 * STEP)
    return slopes


# --- The walk back ------------------------------------------------------------------


@dataclass
class Sent:
    """What a node sent to one of its inputs: `share` = g · `local`."""

    to: Tensor
    local: float  # d(the node's result)/d(this input)
    share: float
    before: float  # what the input had already


@dataclass
class Turn:
    """One step of the walk: the Tensor taken, the g = dL/d(it) that it handed on."""

    taken: Tensor
    g: float
    sent: list[Sent] = field(default_factory=list)


Waiting = dict[Tensor, None]  # in the order in which they were found


def newest(waiting: Waiting) -> Tensor:
    """Choose what was made last: a topological order, as inputs are made first."""
    return max(waiting, key=lambda t: t._node.number)


def last_found(waiting: Waiting) -> Tensor:
    """Choose what was found last: depth first."""
    return next(reversed(waiting))


def walk(
    output: Tensor, choose: Callable[[Waiting], Tensor], late: str = "total"
) -> tuple[list[Turn], dict[Tensor, float]]:
    """Carry dL/dL = 1 back through the engine's graph, one number at each node.

    Args:
        output: L, a single number.
        choose: which of the Tensors that wait is taken next.
        late: what becomes of a share that arrives where the walk has been: "lost";
            "total", the Tensor is taken again and hands on all that it has; or
            "alone", it hands on what is new.

    Returns:
        The turns in order, and the gradients of all Tensors.

    """
    gradients = {output: 1.0}
    new = {output: 1.0}
    waiting: Waiting = {output: None}
    been: set[Tensor] = set()
    turns = []
    while waiting:
        t = choose(waiting)
        del waiting[t]
        been.add(t)
        part = new.pop(t)
        turn = Turn(t, part if late == "alone" else gradients[t])
        for i, x in t._node.inputs():
            y, args = t._node.operands(t)
            share = float(t._node.vjp(i, x, backend.asarray(turn.g), y, args))
            local = float(t._node.vjp(i, x, backend.asarray(1.0), y, args))
            before = gradients.get(x, 0.0)
            turn.sent.append(Sent(x, local, share, before))
            gradients[x] = before + share
            new[x] = new.get(x, 0.0) + share
            if x._node is not None and not (late == "lost" and x in been):
                waiting[x] = None
        turns.append(turn)
    return turns, gradients


# The walks that are drawn: a title, what happens, how the next is chosen, and `late`.
ORDERS = (
    ("Newest first",
     "a waits until s and h have both sent,\nand hands on the sum.",
     newest, "total"),
    ("Depth first, each node once",
     "a is taken before h has sent;\nwhat h sends goes nowhere.",
     last_found, "lost"),
    ("Depth first, again at each arrival",
     "a is taken when s has sent, and when h has;\n"
     "what s sent counts twice in p, thrice in w.",
     last_found, "total"),
)  # fmt: skip


def trace(turns: list[Turn]) -> list[str]:
    """Write the walk as text, each accumulation in its place."""
    lines = []
    for n, turn in enumerate(turns, 1):
        t = turn.taken
        lines.append(
            f"  {n}  take {t.name} = {FORMULA[t.name]} = {t.item():.4f}, "
            f"by {name_of(t._node.function)};  dL/d{t.name} = {turn.g:.4f}"
        )
        for sent in turn.sent:
            x = sent.to.name
            after = sent.before + sent.share
            share = f"{turn.g:.4f} · {sent.local:.4f}"
            if sent.before:
                share = f"{sent.before:.4f} + {share}"
            lines.append(
                f"       d{t.name}/d{x} = {DERIVATIVE[t.name, x]:6}  "
                f"dL/d{x} = {share} = {after:.4f}"
            )
    return lines


# --- The pictures -------------------------------------------------------------------

WIDTH = 1.06  # of a box, in inches
COLUMN = 1.8  # from box to box
BLUE, ORANGE = plots.COLORS[:2]
GRAY = "#777777"


def number(value: float) -> str:
    """Write a number for a picture, with a minus sign that is not a hyphen."""
    return f"{value:.3f}".replace("-", "−")


def paper(name: str) -> str:
    """Return what a node is drawn on: the leaves stand out."""
    return "#DCEBF5" if name in START else "white"


def sheet(ax: Any, bottom: float, top: float) -> None:
    """Make axes that are none: a sheet to draw boxes on, in inches."""
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(-WIDTH / 2 - 0.05, 6 * COLUMN + WIDTH / 2 + 0.05)
    ax.set_ylim(bottom, top)


def draw_box(
    ax: Any,
    at: tuple[float, float],
    lines: list[tuple[str, str]],
    turns: Sequence[int | str] = (),
    **style: Any,
) -> None:
    """Draw lines of text, each with its colour, in a box; above, when it was taken."""
    x, y = at
    right, up = WIDTH / 2, 0.09 + 0.12 * len(lines)
    style = {"facecolor": "white", "edgecolor": "black", "linewidth": 1.4} | style
    ax.fill([x - right, x + right, x + right, x - right],
            [y - up, y - up, y + up, y + up],
            joinstyle="round", zorder=3, **style)  # fmt: skip
    middle = {"ha": "center", "va": "center_baseline", "zorder": 5}
    for i, (text, color) in enumerate(lines):
        down = 0.24 * (i - (len(lines) - 1) / 2) + (0.04 if turns else 0)
        ax.text(x, y - down, text, color=color, **middle)
    for i, turn in enumerate(turns):
        beside = x + 0.34 * (i - (len(turns) - 1) / 2)
        ax.plot(beside, y + up, "o", color=ORANGE, ms=18, zorder=4)
        ax.text(beside, y + up, turn, color="white", weight="bold", **middle)


def draw_edge(
    ax: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    above: str,
    below: str = "",
    **arrow: Any,
) -> None:
    """Draw an arrow from box to box, and beside it a text of one or two lines."""
    ahead = np.sign(end[0] - start[0])
    rise = np.sign(end[1] - start[1])
    # Arrows that meet at a box stay apart there.
    start = start[0] + WIDTH / 2 * ahead, start[1] + 0.22 * rise
    end = end[0] - WIDTH / 2 * ahead, end[1] - 0.22 * rise
    arrow = {"arrowstyle": "-|>", "color": GRAY, "linewidth": 1.4, "shrinkA": 0,
             "shrinkB": 0, "mutation_scale": 14} | arrow  # fmt: skip
    ax.annotate("", end, start, arrowprops=arrow)
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    color = BLUE if arrow["color"] == GRAY else arrow["color"]
    slope = ahead * rise
    if slope:
        ax.text(x - 0.08 * slope, y + 0.1, f"{above}\n{below}".strip(), color=color,
                ha="right" if slope > 0 else "left", va="center")  # fmt: skip
    else:
        ax.text(x, y + 0.06, above, color=color, ha="center", va="bottom")
        ax.text(x, y - 0.08, below, color=color, ha="center", va="top")


def draw_key(ax: Any, x: float, y: float) -> None:
    """Say what stands where, on a node of no graph."""
    lines = [("t = f(u)", GRAY), ("value of t", GRAY), ("dL/dt", ORANGE)]
    draw_box(ax, (x, y), lines, "n", edgecolor="#BBBBBB")
    draw_edge(ax, (x - COLUMN, y), (x, y), "dt/du")
    ax.text(x - COLUMN + WIDTH / 2 - 0.06, y, "u", color=GRAY, ha="right",
            va="center_baseline")  # fmt: skip
    ax.text(x + WIDTH / 2 + 0.15, y + 0.2,
            "n-th on the way back:\ndL/du grows by\ndL/dt · dt/du",
            color=ORANGE, va="center")  # fmt: skip


@plots.styled
def draw_graph(
    graph: dict[str, Tensor], turns: list[Turn], gradients: dict[Tensor, float]
) -> Any:
    """Draw the graph: value, gradient and turn at each node, derivatives on edges."""
    place = {"w": (0, 2.4), "p": (1, 2.4), "b": (1, 0), "a": (2, 1.2), "h": (3, 2.4),
             "s": (4, 1.2), "e": (5, 1.2), "L": (6, 1.2)}  # fmt: skip
    place = {name: (COLUMN * x, y) for name, (x, y) in place.items()}
    figure, ((ax,),) = plots.panels(size=(12, 3.6))
    sheet(ax, -0.55, 3.05)
    taken: dict[str, list[int]] = {name: [] for name in graph}
    arrived: dict[str, list[str]] = {name: [] for name in graph}
    for n, turn in enumerate(turns, 1):
        t = turn.taken.name
        taken[t].append(n)
        for sent in turn.sent:
            u = sent.to.name
            arrived[u].append(f"{number(sent.share)} from {t}")
            formula, value = DERIVATIVE[t, u], number(sent.local)
            draw_edge(ax, place[u], place[t], formula, value if formula != "1" else "")
    for name, t in graph.items():
        formula = f"{name} = {FORMULA[name]}" if name in FORMULA else name
        lines = [(formula, "black"), (number(t.item()), "black"),
                 (number(gradients[t]), ORANGE)]  # fmt: skip
        draw_box(ax, place[name], lines, taken[name], facecolor=paper(name))
        if len(arrived[name]) > 1:
            x, y = place[name]
            ax.text(x - WIDTH / 2, y - 0.53, "\n".join(arrived[name]), color=ORANGE,
                    va="top")  # fmt: skip
    draw_key(ax, 8.8, 0)
    return figure


@plots.styled
def draw_orders(
    graph: dict[str, Tensor],
    walks: Sequence[tuple[list[Turn], dict[Tensor, float]]],
    slope: float,
) -> Any:
    """Draw what the walks of ORDERS sent from s on, to w, whose `slope` is dL/dw."""
    place = {"w": (0, 0), "p": (1, 0), "a": (2, 0), "h": (3, 1.1), "s": (4, 0)}
    place = {name: (COLUMN * x, y) for name, (x, y) in place.items()}
    figure, axes = plots.panels(len(walks), size=(12, 2.15))
    _, right = walks[0]
    for ax, (title, why, *_), (turns, found) in zip(
        axes[:, 0], ORDERS, walks, strict=True
    ):
        sheet(ax, -0.45, 1.7)
        taken: dict[str, list[int]] = {name: [] for name in graph}
        sent: dict[tuple[str, str], list[str]] = {}
        for n, turn in enumerate(turns, 1):
            t = turn.taken.name
            taken[t].append(n)
            for share in turn.sent:
                sent.setdefault((t, share.to.name), []).append(number(share.share))
        for (t, u), shares in sent.items():
            if t in place and u in place:
                draw_edge(ax, place[t], place[u], *shares, color=ORANGE)
        for name, at in place.items():
            t = graph[name]
            wrong = not np.isclose(found[t], right[t])
            lines = [(name, "black"), (number(found[t]) + " ✗" * wrong, ORANGE)]
            line = "--" if wrong else "-"
            draw_box(ax, at, lines, taken[name], facecolor=paper(name), linestyle=line)
        x = 4.6 * COLUMN
        ax.text(x, 1.05, title, weight="bold", va="center")
        ax.text(x, 0.8, why, va="top", linespacing=1.3)
        dw = found[graph["w"]]
        mark = "✓" if np.isclose(dw, slope) else "✗"
        ax.text(x, 0, f"dL/dw = {number(dw)} {mark}", color=ORANGE, va="center")
        ax.text(x + 1.65, 0, f"finite difference {number(slope)}", color=GRAY,
                va="center")  # fmt: skip
    return figure


def run(demo: Demo) -> None:
    """Walk the graph in several orders, and compare."""
    graph = recorded()
    L, leaves = graph["L"], [graph[name] for name in START]
    walks = [walk(L, choose, late) for _, _, choose, late in ORDERS]
    turns, gradients = walks[0]
    demo.say(f"  L = (s − y)², s = tanh(a) · a, a = w·x + b; x = {X}, y = {Y}, {START}")
    for line in trace(turns):
        demo.say(line)
    L.backward(retain_graph=True)
    demo.claim(
        "largest difference of this walk from backward()",
        max(abs(gradients[t] - t.grad.item()) for t in leaves),
        at_most=0,
    )
    slopes = finite_differences()

    def error(found: dict[Tensor, float]) -> float:
        """Return the largest relative error of a gradient."""
        return max(abs(found[graph[k]] / slopes[k] - 1) for k in START)

    demo.claim("and from finite differences, relative", error(gradients), at_most=1e-8)
    for (title, *_), (_, found) in zip(ORDERS[1:], walks[1:], strict=True):
        demo.claim(f"error of the walk {title.lower()}", error(found), at_least=0.4)

    _, found = walk(L, last_found, "alone")
    demo.claim("error if each arrival is handed on alone", error(found), at_most=1e-8)
    chain = gates(GATES)
    demo.claim(
        f"turns through {GATES} gates in a row, newest first",
        len(walk(chain, newest)[0]),
        at_most=2 * GATES,
    )
    demo.claim(
        "depth first, each arrival handed on alone",
        len(walk(chain, last_found, "alone")[0]),
        at_least=2**GATES,
    )
    demo.save(draw_graph(graph, turns, gradients))
    demo.save(draw_orders(graph, walks, slopes["w"]), "order")


if __name__ == "__main__":
    main(__name__)
