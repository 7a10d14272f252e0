"""One walk from the result back to the inputs gives every gradient by the chain rule.

The lecture trains networks ("실제 데이터로 분류할 만큼 유사한 데이터를 생성할 수 있도록
생성네트워크 학습", the generator is trained until its data are classified as real) and
does not say how gradients are computed. This demo shows it on the smallest expression
that uses one value twice,

    L = (s - y)²,   s = tanh(a) · a,   a = w·x + b.

Drawn: the graph that the engine recorded, the derivative on each edge, the gradient at
each node, and the order of the walk back. Measured: this walk, `backward()` and finite
differences agree; in another order two walks fail, and a third is right but slow. a
receives one share of its gradient from s and one from h = tanh(a). If the walk visits a
before both have arrived, a can

- ignore the late share: the gradient is wrong;
- send its whole sum again: wrong, the first share counts twice;
- send each share on separately: right, but every value that is used twice doubles the
  number of later visits.

Inputs are made before results, so newest first is a topological order read backwards:
no share arrives late.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import Tensor, backend, plots
from scratchnet.table import name_of

X, Y = 2.0, 1.0  # the data, without gradient
START = {"w": 0.4, "b": -0.3}  # for seed 0; other seeds draw them
STEP = 1e-5  # of the finite differences
GATES = 10  # in a row; each uses its input twice

# The formula of each value and of each derivative, for the trace and the figure.
FORMULA = {"L": "e²", "e": "s − y", "s": "h · a", "h": "tanh a", "a": "p + b",
           "p": "w · x"}  # fmt: skip
DERIVATIVE = {("L", "e"): "2e", ("e", "s"): "1", ("s", "h"): "a", ("s", "a"): "h",
              ("h", "a"): "1 − h²", ("a", "p"): "1", ("a", "b"): "1",
              ("p", "w"): "x"}  # fmt: skip


# --- The expression -----------------------------------------------------------------


def expression(w: Any, b: Any) -> dict[str, Any]:
    """Compute L and all intermediate values, by name, from Tensors or numbers."""
    p = w * X
    a = p + b
    h = np.tanh(a)
    s = h * a
    e = s - Y
    return {"w": w, "b": b, "p": p, "a": a, "h": h, "s": s, "e": e, "L": np.square(e)}


def recorded(start: dict[str, float] = START) -> dict[str, Tensor]:
    """Return the expression as recorded by the engine; each Tensor has its name."""
    leaves = {k: Tensor(np.array(v), requires_grad=True) for k, v in start.items()}
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


def finite_differences(start: dict[str, float] = START) -> dict[str, float]:
    """Return dL/dw and dL/db as central differences, without any rule."""
    slopes = {}
    for name in start:
        right = expression(**(start | {name: start[name] + STEP}))["L"]
        left = expression(**(start | {name: start[name] - STEP}))["L"]
        slopes[name] = float(right - left) / (2 * STEP)
    return slopes


# --- The walk back ------------------------------------------------------------------
# `_node` is the engine's record of one call (graph.py, the next file to read): the
# Tensors that it took, and vjp(g), which returns g times the local derivative.


@dataclass
class Sent:
    """A node's message to one of its inputs: `share` = g · `local`."""

    to: Tensor
    local: float  # d(the node's result)/d(this input)
    share: float
    before: float  # the gradient of the input so far


@dataclass
class Turn:
    """One step of the walk: the visited Tensor, and its gradient g at that time."""

    visited: Tensor
    g: float
    sent: list[Sent] = field(default_factory=list)


Waiting = dict[Tensor, None]  # in the order of discovery


def newest(waiting: Waiting) -> Tensor:
    """Choose the newest, so that each result comes before its inputs."""
    return max(waiting, key=lambda t: t._node.number)


def last_found(waiting: Waiting) -> Tensor:
    """Choose the one discovered last: depth first."""
    return next(reversed(waiting))


def walk(
    output: Tensor, choose: Callable[[Waiting], Tensor], late: str = "total"
) -> tuple[list[Turn], dict[Tensor, float]]:
    """Carry dL/dL = 1 back through the engine's graph, one number at each node.

    Args:
        output: L, a single number.
        choose: picks the next Tensor among those that wait.
        late: what happens if a share arrives at a Tensor after its visit. "lost":
            nothing. "total": the Tensor is visited again and sends its whole gradient.
            "alone": it is visited again and sends only the new share.

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


# The walks drawn: title, explanation, choice of the next Tensor, and `late`.
ORDERS = (
    ("Newest first",
     "a is visited after s and h have both sent their share.",
     newest, "total"),
    ("Depth first, each node once",
     "a is visited before h has sent its share; that share goes no further.",
     last_found, "lost"),
    ("Depth first, again at each arrival",
     "a is visited twice and sends its whole sum each time; so does p.",
     last_found, "total"),
)  # fmt: skip


def trace(turns: list[Turn]) -> list[str]:
    """Return the walk as lines of text, with each sum."""
    lines = []
    for n, turn in enumerate(turns, 1):
        t = turn.visited
        lines.append(
            f"  {n}  visit {t.name} = {FORMULA[t.name]} = {t.item():.4f}, "
            f"by {name_of(t._node.function)};  dL/d{t.name} = {turn.g:.4f}"
        )
        for sent in turn.sent:
            x = sent.to.name
            after = sent.before + sent.share
            local = f"{sent.local:.4f}" if sent.local >= 0 else f"({sent.local:.4f})"
            share = f"{turn.g:.4f} · {local}"
            if sent.before:
                share = f"{sent.before:.4f} + ({share})"
            lines.append(
                f"       d{t.name}/d{x} = {DERIVATIVE[t.name, x]:6}  "
                f"dL/d{x} = {share} = {after:.4f}"
            )
    return lines


# --- The pictures -------------------------------------------------------------------

WIDTH = 1.0  # of a box, in inches
COLUMN = 1.7  # from box to box
BLUE, ORANGE = plots.COLORS[:2]
GRAY = "#777777"


def number(value: float) -> str:
    """Write a number for a picture, with a minus sign that is not a hyphen."""
    return f"{value:.3f}".replace("-", "−")


def paper(name: str) -> str:
    """Return the colour of a box: leaves are blue."""
    return "#DCEBF5" if name in START else "white"


def sheet(ax: Any, columns: int, bottom: float, top: float) -> None:
    """Turn axes into an empty sheet for columns of boxes, in inches."""
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(-WIDTH / 2 - 0.05, (columns - 1) * COLUMN + WIDTH / 2 + 0.05)
    ax.set_ylim(bottom, top)


def draw_box(
    ax: Any,
    at: tuple[float, float],
    lines: list[tuple[str, str]],
    turns: Sequence[int | str] = (),
    **style: Any,
) -> None:
    """Draw lines of coloured text in a box, and above it the numbers of its visits."""
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
        left = x + 0.34 * (i - (len(turns) - 1) / 2)
        ax.plot(left, y + up, "o", color=ORANGE, ms=18, zorder=4)
        ax.text(left, y + up, turn, color="white", weight="bold", **middle)


def draw_edge(
    ax: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    above: str,
    below: str = "",
    **arrow: Any,
) -> None:
    """Draw an arrow from box to box, with one or two lines of text."""
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
    """Draw the key: a box and an edge with the meaning of each text."""
    lines = [("t = f(u)", GRAY), ("value of t", GRAY), ("dL/dt", ORANGE)]
    draw_box(ax, (x, y), lines, "n", edgecolor="#BBBBBB")
    draw_edge(ax, (x - COLUMN, y), (x, y), "dt/du")
    ax.text(x - COLUMN + WIDTH / 2 - 0.06, y, "u", color=GRAY, ha="right",
            va="center_baseline")  # fmt: skip
    ax.text(x + WIDTH / 2 + 0.15, y + 0.2,
            "n-th visit: adds\ndL/dt · dt/du\nto dL/du",
            color=ORANGE, va="center")  # fmt: skip


@plots.styled
def draw_graph(
    graph: dict[str, Tensor], turns: list[Turn], gradients: dict[Tensor, float]
) -> Any:
    """Draw the graph: value, gradient and visit at each node, derivatives on edges."""
    place = {"w": (0, 2.4), "p": (1, 2.4), "b": (1, 0), "a": (2, 1.2), "h": (3, 2.4),
             "s": (4, 1.2), "e": (5, 1.2), "L": (6, 1.2)}  # fmt: skip
    place = {name: (COLUMN * x, y) for name, (x, y) in place.items()}
    figure, ((ax,),) = plots.panels(size=(11.3, 3.95))
    sheet(ax, 7, -0.55, 3.05)
    ax.set_title("The gradient of L = (s − y)², with s = tanh(a) · a and a = w · x + b")
    visits: dict[str, list[int]] = {name: [] for name in graph}
    arrived: dict[str, list[str]] = {name: [] for name in graph}
    for n, turn in enumerate(turns, 1):
        t = turn.visited.name
        visits[t].append(n)
        for sent in turn.sent:
            u = sent.to.name
            arrived[u].append(f"{number(sent.share)} from {t}")
            formula, value = DERIVATIVE[t, u], number(sent.local)
            draw_edge(ax, place[u], place[t], formula, value if formula != "1" else "")
    for name, t in graph.items():
        formula = f"{name} = {FORMULA[name]}" if name in FORMULA else name
        lines = [(formula, "black"), (number(t.item()), "black"),
                 (number(gradients[t]), ORANGE)]  # fmt: skip
        draw_box(ax, place[name], lines, visits[name], facecolor=paper(name))
        if len(arrived[name]) > 1:
            x, y = place[name]
            ax.text(x - WIDTH / 2, y - 0.53, "\n".join(arrived[name]), color=ORANGE,
                    va="top")  # fmt: skip
    draw_key(ax, 4.8 * COLUMN, 0)
    return figure


@plots.styled
def draw_orders(
    graph: dict[str, Tensor],
    walks: Sequence[tuple[list[Turn], dict[Tensor, float]]],
    slope: float,
) -> Any:
    """Draw the walks of ORDERS from s back to w; dL/dw should be `slope`."""
    place = {"w": (0, 0), "p": (1, 0), "a": (2, 0), "h": (3, 1.1), "s": (4, 0)}
    place = {name: (COLUMN * x, y) for name, (x, y) in place.items()}
    figure, axes = plots.panels(len(walks), size=(7.9, 3.1))
    _, right = walks[0]
    for ax, (title, why, *_), (turns, found) in zip(
        axes[:, 0], ORDERS, walks, strict=True
    ):
        sheet(ax, 5, -0.8, 1.7)
        visits: dict[str, list[int]] = {name: [] for name in graph}
        sent: dict[tuple[str, str], list[str]] = {}
        for n, turn in enumerate(turns, 1):
            t = turn.visited.name
            visits[t].append(n)
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
            draw_box(ax, at, lines, visits[name], facecolor=paper(name), linestyle=line)
        dw = found[graph["w"]]
        verdict = "right ✓" if np.isclose(dw, slope) else "wrong ✗"
        ax.set_title(f"{title}: {verdict}", weight="bold", loc="left", pad=22)
        ax.text(0, 1, why, transform=ax.transAxes)
        ax.text(-WIDTH / 2, -0.65, f"dL/dw = {number(dw)}; finite difference "
                f"{number(slope)}", color=ORANGE)  # fmt: skip
    figure.supxlabel("circle: order of the visits; box: gradient after the walk; "
                     "arrow: share sent; ✗: wrong", fontsize=10)  # fmt: skip
    return figure


def run(demo: Demo) -> None:
    """Walk the graph in several orders, and compare the gradients."""
    start = START
    if demo.seed:
        drawn = np.random.default_rng(demo.seed).random(len(START)).tolist()
        start = dict(zip(START, drawn, strict=True))
    graph = recorded(start)
    L, leaves = graph["L"], [graph[name] for name in START]
    walks = [walk(L, choose, late) for _, _, choose, late in ORDERS]
    turns, gradients = walks[0]
    values = {"x": X, "y": Y, **start}
    demo.say("  L = (s − y)², s = tanh(a) · a, a = w·x + b; "
             + ", ".join(f"{k} = {v:.4g}" for k, v in values.items()))  # fmt: skip
    for line in trace(turns):
        demo.say(line)
    L.backward(retain_graph=True)
    slopes = finite_differences(start)

    def difference(found: dict[Tensor, float]) -> float:
        """Return the largest difference of a gradient from that of backward()."""
        return max(abs(found[t] - t.grad.item()) for t in leaves)

    def error(found: dict[Tensor, float]) -> float:
        """Return the largest relative error of a gradient."""
        return max(abs(found[graph[k]] / slopes[k] - 1) for k in START)

    wrong = {title: found for (title, *_), (_, found) in
             zip(ORDERS[1:], walks[1:], strict=True)}  # fmt: skip
    demo.claim("newest first: largest difference from backward()",
               difference(gradients), at_most=0,
               baseline={k: difference(v) for k, v in wrong.items()})  # fmt: skip
    errors = {title: error(found) for title, found in wrong.items()}
    demo.claim("newest first: relative difference from finite differences",
               error(gradients), at_most=1e-8, baseline=errors)  # fmt: skip
    _, found = walk(L, last_found, "alone")
    demo.claim("each share sent on separately: the same difference",
               error(found), at_most=1e-8, baseline=errors)  # fmt: skip
    chain = gates(GATES)
    separately = len(walk(chain, last_found, "alone")[0])
    demo.claim(f"visits through {GATES} gates in a row, newest first",
               len(walk(chain, newest)[0]), at_most=2 * GATES,
               baseline={"each share sent on separately": separately})  # fmt: skip
    demo.save(draw_graph(graph, turns, gradients),
              alt="The graph of the expression: values, gradients and the order of the "
              "visits.")  # fmt: skip
    demo.save(draw_orders(graph, walks, slopes["w"]), "order",
              alt="Three walks back from s to w: newest first is right, and two "
              "depth-first orders are wrong.")  # fmt: skip


if __name__ == "__main__":
    main(__name__)
