"""The page of a run: one HTML file that needs no network.

`render` puts the contents of a run into page.html, with page.css and page.js inside.
The page asks for nothing: its policy admits only its own style and script, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from scratchnet import __version__, plots
from scratchnet.report.contents import MOST_WEIGHTS, Contents
from scratchnet.report.curves import Curve, chart
from scratchnet.report.words import both, pair, text
from scratchnet.runs.files import WEIGHTS
from scratchnet.runs.systems import SYSTEMS
from scratchnet.training import GANHistory, History

# What the lecture says about a system, by the section that shows it.
SAYS: dict[str, dict[str, str]] = {
    "autoencoder": {"reconstructions": "says_autoencoder", "plane": "says_plane"},
    "stacked": {"reconstructions": "says_stacked", "plane": "says_plane"},
    "denoising": {"reconstructions": "says_denoising"},
    "vae": {"samples": "says_vae", "plane": "says_plane"},
    "iwae": {"samples": "says_vae", "plane": "says_plane"},
    "gan": {"samples": "says_gan", "curves": "says_balance"},
}


def render(found: Contents, language: str) -> str:
    """Return the page of a run, in one language first; a button shows the other."""
    key, values = found.result
    return assembled(
        language,
        title=text(found.run.system, language),
        heading=sentence(found),
        result=both(key, **values),
        sections="\n".join(sections(found)),
        footer=footer(found),
        data=embedded(found),
    )


def render_history(history: History | GANHistory, language: str) -> str:
    """Return a page with the curves of a training alone."""
    return assembled(
        language,
        title=text("curves", language),
        heading=both("curves"),
        result=both("curves_alone"),
        sections=f"<section>{curves(asdict(history))}</section>",
        footer=f"<p>{both('versions')}: {versions()}</p>",
        data="{}",
    )


def assembled(language: str, *, title: str, **parts: str) -> str:
    """Return a page: the parts in page.html, with the style and the script inside."""
    style, script = (file(name).strip() for name in ("page.css", "page.js"))
    return Template(file("page.html")).substitute(
        language=language,
        policy=policy(style, script),
        title=escape(title),
        style=style,
        script=script,
        is_english=str(language == "en").lower(),
        is_korean=str(language == "ko").lower(),
        dark=both("dark"),
        noscript=both("noscript"),
        **parts,
    )


@cache
def file(name: str) -> str:
    """Return a file of this package."""
    return files("scratchnet.report").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Return the content security policy of a page with this style and script."""
    hashes = (
        base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        for part in (style, script)
    )
    s, j = (f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; img-src data:; style-src {s}; script-src {j}; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(found: Contents) -> str:
    """Return what the script needs as JSON that cannot end its element."""
    data = {
        "shape": found.run.shape,
        "ink": found.ink,
        "decoder": found.decoder,
        "plane": found.plane,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def sentence(found: Contents) -> str:
    """Return what was trained, in a sentence."""
    unit = SYSTEMS[found.run.system].length
    length = pair(unit, n=f"{found.about.options[unit]:,}")
    return both(
        "trained", system=pair(found.run.system), n=f"{found.trained:,}",
        data=found.data, length=length,
    )  # fmt: skip


def sections(found: Contents) -> list[str]:
    """Return the sections of the page, in order."""
    squared = found.about.options.get("loss") == "squared"
    loss = "loss_squared" if squared else "loss_nats"
    made = [
        ("reconstructions", pictures(found, found.rows)),
        ("samples", pictures(found, found.samples)),
        ("doctor", diagnosis(found)),
        ("pad", pad(found)),
        ("walk", walk(found)),
        ("plane", plane(found)),
        ("curves", curves(found.history, loss, found.pca_error)),
        ("kl", divergences(found)),
    ]
    names = {"plane": "codes"}
    said = SAYS[found.run.system]
    return [
        f'<section id="s-{name}"><h2>{both(names.get(name, name))}</h2>\n'
        f"{lecture(said[name]) if name in said else ''}{html}\n</section>"
        for name, html in made
        if html
    ]


def lecture(key: str) -> str:
    """Return what the lecture says, to stand above the picture that shows it."""
    return f'<p class="says">{both("lecture")} {both(key)}</p>\n'


# --- Pictures -----------------------------------------------------------------------


def pictures(found: Contents, rows: dict[str, np.ndarray]) -> str:
    """Return rows of pictures, each with its name."""
    shown = "\n".join(
        f"<dt>{both(name)}</dt><dd>{image(found, strip(x), text(name, 'en'))}</dd>"
        for name, x in rows.items()
    )
    return shown and f'<dl class="rows">{shown}</dl>'


def strip(x: np.ndarray, columns: int = 12) -> np.ndarray:
    """Put pictures (n, rows, columns) next to each other, 12 in a row."""
    n, height, width = x.shape
    lines = -(-n // columns)
    sheet = np.zeros((lines * columns, height, width), x.dtype)
    sheet[:n] = x
    wide = sheet.reshape(lines, columns, height, width).swapaxes(1, 2)
    return wide.reshape(lines * height, columns * width)


def image(found: Contents, sheet: np.ndarray, alt: str) -> str:
    """Return a picture in the page."""
    png = base64.b64encode(plots.png(sheet, ink=found.ink)).decode()
    height, width = sheet.shape
    return (
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{png}">'
    )


# --- Tools of the script ------------------------------------------------------------


def pad(found: Contents) -> str:
    """Return the pad that decodes two numbers of a code; or why there is none."""
    if found.too_large:
        size, most = (f"{n / 1e6:.1f} MB" for n in (found.too_large, 2 * MOST_WEIGHTS))
        return f'<p class="note">{both("left_out", size=size, most=most)}</p>'
    if found.decoder is None:
        return ""
    numbers = range(len(found.decoder["mean"]))
    controls = [
        f'<label>{both(way)}<select id="dimension-{k}">{options(numbers)}</select>'
        f'<input type="range" id="pad-{k}" min="-1" max="1" step="0.01" value="0">'
        "</label>"
        for k, way in enumerate(("horizontal", "vertical"))
    ]
    return (
        f"<p>{both('pad_help')}</p>"
        '<div class="tool script"><canvas id="decoded" role="img" '
        f'aria-label="{text("model", "en")}"></canvas><div class="controls">'
        '<canvas id="pad" class="square" width="320" height="320"></canvas>'
        f"{''.join(controls)}</div></div>"
    )


def options(numbers: range) -> str:
    """Return a choice of the numbers of the code, in both languages."""
    return "".join(
        f'<option value="{k}" data-en="{en}" data-ko="{ko}">{en}</option>'
        for k in numbers
        for en, ko in [pair("dimension", n=k + 1)]
    )


def walk(found: Contents) -> str:
    """Return the walk between the codes of two images."""
    if found.decoder is None:
        return ""
    n = len(found.decoder["codes"])
    ends = "".join(
        f'<label>{both(name)}<input type="range" id="{name}" min="0" max="{n - 1}" '
        f'value="{value}"></label>'
        for name, value in (("from", 0), ("to", min(3, n - 1)))
    )
    return (
        '<div class="tool script"><canvas id="walked" role="img" '
        f'aria-label="{text("walk", "en")}"></canvas><div class="controls">{ends}'
        f'<label>{both("position")}<input type="range" id="walk" min="0" max="1" '
        'step="0.01" value="0.5"></label></div></div>'
    )


def plane(found: Contents) -> str:
    """Return the plane of codes, with the picture of a point."""
    if found.plane is None:
        return ""
    last = len(found.plane["points"]) - 1
    axes = pair(found.axes)
    return (
        f"<p>{both('plane_help', axes=axes)}</p>"
        '<div class="tool script"><div class="controls">'
        '<canvas id="plane-picture" role="img" aria-label="image"></canvas>'
        f'<label>{both("image")}<input type="range" id="plane-image" min="0" '
        f'max="{last}" value="0"></label></div>'
        '<canvas id="plane" class="plane" width="640" height="480"></canvas></div>'
    )


# --- Curves and numbers -------------------------------------------------------------


def curves(
    h: Mapping[str, Any], loss: str = "loss", pca_error: float | None = None
) -> str:
    """Return the curves of a training.

    Args:
        h: a history, as in history.json.
        loss: the key of the name of the loss.
        pca_error: the squared error of PCA, a line of reference.

    """
    if "v" in h:
        answers = {"d_real": h["real"], "d_generated": h["generated"]}
        drawn = [Curve(name, h["steps"], values) for name, values in answers.items()]
        return chart(drawn, {"half": 0.5}, "step", "probability") + chart(
            [Curve("v", h["steps"], h["v"])], {"log4": -np.log(4)}, "step", "v"
        )
    drawn = [Curve("training_loss", *enumerated(h["losses"]))]
    if h["validation_losses"]:
        drawn.append(Curve("validation_loss", *enumerated(h["validation_losses"])))
    lines = {} if pca_error is None else {"pca_loss": pca_error}
    return chart(drawn, lines, "epoch", loss)


def enumerated(values: list[float]) -> tuple[list[float], list[float]]:
    """Return the epochs 1, 2, ... and the values."""
    return [float(k + 1) for k in range(len(values))], values


def divergences(found: Contents) -> str:
    """Return the KL divergence of each number of the code, as bars."""
    if not found.kl:
        return ""
    most = max(found.kl)
    rows = "".join(
        f"<span>{both('dimension', n=k + 1)}</span>"
        f'<meter min="0" max="{most:.4f}" value="{kl:.4f}" '
        f'aria-label="{text("dimension", "en", n=k + 1)}">{kl:.2f}</meter>'
        f"<span>{kl:.2f}</span>"
        for k, kl in enumerate(found.kl)
    )
    return f'<div class="bars">{rows}</div>'


def diagnosis(found: Contents) -> str:
    """Return the findings about a GAN, in sentences."""
    said = (f'<p class="note">{both(f.key, **f.values)}</p>' for f in found.diagnosis)
    return "".join(said)


def footer(found: Contents) -> str:
    """Return the command, the seed, the versions and the check of the decoder."""
    given = found.about.options
    defaults = SYSTEMS[found.run.system].defaults
    command = ["python", "-m", "scratchnet", "train", found.run.system]
    for name, value in given.items():
        if value != defaults.get(name):
            values = value if isinstance(value, list) else [value]
            command += [f"--{name.replace('_', '-')}", *map(str, values)]
    weights = both("weights_words", n=f"{found.weights:,}", file=WEIGHTS)
    rows: dict[str, Any] = {
        "command": f"<code>{escape(shlex.join(command))}</code>",
        "seed": str(given["seed"]),
        "versions": versions(),
        "weights": f'<a href="{WEIGHTS}" download>{weights}</a>',
    }
    if found.decoder is not None:
        rows["check"] = f'{both("check_words")}<span class="difference">–</span>'
    lines = "".join(f"<dt>{both(k)}</dt><dd>{v}</dd>" for k, v in rows.items())
    return f"<h2>{both('about')}</h2><dl>{lines}</dl>"


def versions() -> str:
    """Return the versions that wrote the page."""
    python = platform.python_version()
    return f"scratchnet {__version__}, NumPy {np.__version__}, Python {python}"
