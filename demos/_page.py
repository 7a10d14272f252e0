"""The page of a demo that ran from several seeds: its claims and its figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from demos._claim import Claim


def page(
    name: str,
    doc: str,
    command: str,
    seconds: float,
    runs: Sequence[Sequence[Claim]],
    figures: Mapping[str, str],
) -> str:
    """Return the page in Markdown.

    Args:
        name: of the demo.
        doc: its docstring.
        command: what was run.
        seconds: how long it took.
        runs: the claims of each seed.
        figures: the alternative text of each figure, by the name of its file.

    Raises:
        ValueError: two seeds claim different things.

    """
    rows = by_quantity(runs)
    claims = [row for row in rows if row[0].bounded and not row[0].tried]
    missed = [row for row in rows if row[0].tried]
    others = [row for row in rows if not row[0].bounded]
    parts = [
        f"# {name}",
        doc.strip(),
        f"```sh\n{command}  # about {duration(seconds)}\n```",
        f"Medians and ranges of {len(runs)} seeds. A claim holds for a seed if its "
        "number meets the\nbound and no baseline (the lines below it) does.",
    ]
    if claims:
        parts.append(table(claims))
    if missed:
        parts += ["## Targets that were missed", table(missed)]
        parts.append("\n".join(f"- {row[0].what}: {row[0].tried}" for row in missed))
    if others:
        parts += ["## Also measured", table(others)]
    parts += [f"![{alt}]({path})" for path, alt in figures.items()]
    return "\n\n".join(parts) + "\n"


def by_quantity(runs: Sequence[Sequence[Claim]]) -> list[list[Claim]]:
    """Return for each quantity its claims, one of each seed."""
    found: dict[str, list[Claim]] = {}
    for claims in runs:
        for claim in claims:
            found.setdefault(claim.what, []).append(claim)
    for what, row in found.items():
        same = len({tuple(claim.baseline) for claim in row}) == 1
        if len(row) != len(runs) or not same:
            raise ValueError(f"{what!r} is not measured once by every seed, alike")
    return list(found.values())


def table(rows: Sequence[Sequence[Claim]]) -> str:
    """Return a table in Markdown: a line for each claim, and for each baseline."""
    lines = [
        "| | bound | median | least | greatest | holds |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        holds = f"{sum(c.holds for c in row)} of {len(row)}" if row[0].bounded else ""
        cells = [
            f"**{escaped(row[0].what)}**",
            bound(row),
            *spread([c.value for c in row]),
            holds,
        ]
        lines.append(f"| {' | '.join(cells)} |")
        for name in row[0].baseline:
            values = spread([c.baseline[name] for c in row])
            lines.append(f"| {' | '.join([escaped(name), '', *values, ''])} |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return a text whose bars, as in |x|, do not end a cell of a table."""
    return text.replace("|", "\\|")


def bound(row: Sequence[Claim]) -> str:
    """Return the bounds, "≥ 0.9"; of bounds that vary with the seed, the medians."""
    parts = []
    for sign, attribute in ("≥", "at_least"), ("≤", "at_most"):
        values = [getattr(claim, attribute) for claim in row]
        if None not in values:
            parts.append(f"{sign} {np.median(values):.4g}")
    return ", ".join(parts)


def spread(values: Sequence[float]) -> list[str]:
    """Return median, least and greatest as text."""
    return [f"{value:.4g}" for value in (np.median(values), min(values), max(values))]


def duration(seconds: float) -> str:
    """Return a rough duration: "40 s", "3 minutes", "2 hours"."""
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"
