"""The page of the results in Markdown: claims, ablations and settings."""

import re
from typing import Any, NamedTuple

from demos.papers._jobs import Row

Result = dict[str, Any]  # a row, as `_table.summary` returns it
# Full names of measures that have short names in the results.
NAMES = {
    "train": "on training images",
    "validation": "on validation images",
    "of validation images": "on validation images",
    "its standard error": "its standard error over test images",
    "σ": "σ of the Parzen window",
    "of 5 % below": "5 % of the samples are nearer than",
}
NUMBER = ("", "+", "−", *"0123456789")
CLAIMS: str = Row._field_defaults["table"]

INTRODUCTION = """\
# The papers' numbers

```sh
python -m demos.papers --data DIR    # about twelve hours of one core
```

trains on MNIST, whose four files are in DIR, what the papers trained, and evaluates
it by their protocols. One training takes between a few minutes and an hour and a half.
`--only NAME`, `--seeds N`, `--jobs N` and `--hours H` do a part. Results are kept, an
interrupted training resumes, and commands that run at the same time share the work.
`--only iwae-50 --backend cupy` needs a GPU.

Hyperparameters were selected on validation images, with two exceptions. Ring and grid
have no validation images; they were tuned on the score of one seed. The regularisation
of the deep autoencoder was first tuned in a trial on test images.

- ± is the standard error over trainings, where there are several. Over test images it
  is 0.23 nats for the VAE and the IWAE, and 2.1 nats for the GAN.
- "below sae-basic" means lower than sae-basic by this much: the mean difference from
  the trainings of that row, seed by seed. A target of ≥ 0 is met if the whole 95 %
  interval is above 0, by Student's t.
- CPU minutes were measured next to other work and on several machines: in the kept
  curves, an epoch of the classifier on mnist takes from 13.6 s (SDAE) to 44.2 s
  (SAE).
- Random one-pixel shifts regularise the deep autoencoder. They reduce the error of
  held-out images from 3.65 to 2.95 in 60 epochs; weight decay reduces it to 3.56,
  both together to 2.97.
- A Parzen window alone can be fooled, as the centroids show. So below are also the
  Fréchet distance from the test images (0.6 for the GAN, 0.9 for real images by other
  writers, 60 for a Gaussian) and the distance of samples from training images.
  [Samples next to the nearest training images](gan.png).
- The recipe for the [ring](ring.png) and the [grid](grid.png) is the plain game with
  R1, without momentum, and with a learning rate that falls.
  [mixtures.py](../papers/mixtures.py) says why it works; the ablation below shows
  what each part does.

![−log p(x) of validation images against CPU time](curves.png)

"""


class Measure(NamedTuple):
    """One measure of a row, as the page shows it."""

    name: str
    value: str
    error: str  # the standard error over trainings, if there are several
    pairs: str  # "3 of 5", for a difference from another row


def measures(one: Result) -> list[Measure]:
    """Return the measures of a row, the paper's measure first."""
    found = []
    for i, (name, text) in enumerate(one["ours"].items()):
        by = re.fullmatch(r"by (.*), in (.*) pairs", text)
        value, _, error = (by[1] if by else text).partition(" ± ")
        shown = NAMES.get(name, name) if i else one["metric"]
        found.append(Measure(shown, value, error, by[2] if by else ""))
    return found


def papers_numbers(one: Result) -> dict[str, str]:
    """Return the numbers of a row's paper by measure; "96, 8 modes" has two."""
    first, *rest = one["paper"].partition(" (")[0].split(", ")
    found = {one["metric"]: first}
    for part in rest:
        words = part.split()
        number = next(word for word in words if word[0] in ".0123456789")
        words.remove(number)
        found[" ".join(words)] = f"0{number}" if number[0] == "." else number
    return found


def targets(one: Result) -> dict[str, tuple[str, str]]:
    """Return the target of each measure of a row, and "met" or "missed"."""
    found = {}
    for aim, met in one["aims"].items():
        *name, sign, value = aim.split(" ")
        measure = " ".join(name) or one["metric"]
        found[measure] = f"{sign} {value}", "met" if met else "missed"
    return found


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table with numbers aligned right, and an empty line."""
    numbers = [all(row[k][:1] in NUMBER for row in rows) for k in range(len(head))]
    rule = ["---:" if right else "---" for right in numbers]
    cells = [head, rule, *rows]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def claims(rows: list[Result]) -> list[str]:
    """Return the table of the measures with a paper's number or a target."""
    lines = []
    for one in rows:
        paper, target = papers_numbers(one), targets(one)
        source = one["paper"].partition(" (")[2].rstrip(")")
        for i, m in enumerate(measures(one)):
            aim = target.get(m.name.replace("above ", "below "), ("", ""))
            if i and not m.pairs and not aim[0]:
                continue
            name = f"{m.name}, in {m.pairs} pairs" if m.pairs else m.name
            counts = ["", ""] if i else [str(one["seeds"]), str(one["CPU minutes"])]
            first = ["", ""] if i else [one["about"], source]
            lines.append([first[0], name, paper.get(m.name, ""), m.value, m.error, *aim,
                          *counts, first[1]])  # fmt: skip
        if aim := target.get("CPU min"):
            minutes = str(one["CPU minutes"])
            lines.append(["", "CPU minutes", "", minutes, "", *aim, "", "", ""])
    head = ["what", "measure", "paper", "scratchnet", "±", "target", "result",
            "trainings", "CPU minutes", "source"]  # fmt: skip
    return table(head, lines)


def other_measures(rows: list[Result]) -> list[str]:
    """Return the table of the measures without a target."""
    lines = []
    for one in rows:
        target, about = targets(one), one["about"]
        for m in measures(one)[1:]:
            if not m.pairs and m.name not in target:
                lines.append([about, m.name, m.value, m.error])
                about = ""
    return table(["what", "measure", "scratchnet", "±"], lines) if lines else []


def ablation(rows: list[Result]) -> list[str]:
    """Return a table with a line for each row and a column for each measure."""
    found = []
    for one in rows:
        cells = {}
        for m in measures(one):
            side, _, other = m.name.partition(" ")
            name, value = m.name, m.value
            if m.pairs:  # one column for differences of both signs
                name = f"difference from {other}"
                value = f"{'−' if side == 'below' else '+'}{value}"
            cells[name] = value
            if m.error:
                cells[f"± {name}"] = m.error
            if m.pairs:
                cells["pairs with this sign"] = m.pairs
        counts = {
            "trainings": str(one["seeds"]),
            "CPU minutes": str(one["CPU minutes"]),
        }
        found.append({"what": one["about"], **cells, **counts})
    names = list(dict.fromkeys(name for cells in found for name in cells))
    head = ["±" if name.startswith("± ") else name for name in names]
    return table(head, [[cells.get(name, "") for name in names] for cells in found])


def settings(rows: list[Result]) -> list[list[str]]:
    """Return the settings of each row; of a variant, what differs from its recipe."""
    named: dict[str, str] = {}
    found = []
    for one in rows:
        text = one["settings"]
        recipe, _, change = text.partition("; but ")
        if text not in one["about"]:
            same = change and recipe in named
            shown = f"as {named[recipe]}, but {change}" if same else text
            found.append([one["about"], shown])
        named[text] = one["about"]
    return found


def notes(rows: list[Result], key: str) -> list[str]:
    """Return the texts of a key, each once with the rows that share it."""
    texts: dict[str, list[str]] = {}
    for one in rows:
        if one[key]:
            texts.setdefault(one[key], []).append(one["about"])
    lines = [f"- {'; '.join(about)}: {text}." for text, about in texts.items()]
    return [*lines, ""] if lines else []


def markdown(rows: list[Result]) -> str:
    """Return the page."""
    groups: dict[str, list[Result]] = {}
    for one in rows:
        groups.setdefault(one["table"], []).append(one)
    with_claims = {
        title: group
        for title, group in groups.items()
        if any(one["paper"] or one["aims"] for one in group)
    }
    lines = []
    for title, group in with_claims.items():
        heading = "Claims" if title == CLAIMS else title
        lines += [f"## {heading}", "", *claims(group)]
    if others := other_measures([x for group in with_claims.values() for x in group]):
        lines += ["## Other measures of the same trainings", "", *others]
    if len(with_claims) < len(groups):
        lines += [
            "## Ablations",
            "",
            "Differences are taken seed by seed, from trainings with the same seeds.",
            "",
        ]
    for title, group in groups.items():
        if title not in with_claims:
            lines += [f"### {title}", "", *ablation(group)]
    lines += ["## Settings", "", *table(["what", "settings"], settings(rows))]
    for title, key in {
        "Differences from the papers": "departures",
        "Also tried, where a target is missed": "tried",
    }.items():
        if said := notes(rows, key):
            lines += [f"## {title}", "", *said]
    return INTRODUCTION + "\n".join(lines[:-1]) + "\n"
