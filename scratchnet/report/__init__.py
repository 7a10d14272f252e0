"""The report: one page per run, with the run's own decoder in it.

    scratchnet.report.write("runs/vae")        # writes runs/vae/report.html

The page opens by a double click and needs no network. contents reads the run, page
puts the HTML together, words has its words in English and Korean, doctor the rules
about a GAN; page.html, page.css and page.js are the files of the page.
"""

from __future__ import annotations

import os
from pathlib import Path

from scratchnet import checks
from scratchnet.report.contents import read
from scratchnet.report.page import render, render_history
from scratchnet.report.words import LANGUAGES
from scratchnet.training import GANHistory, History, checkpoint

__all__ = ["write"]

REPORT = "report.html"
MOST = 8_000_000  # bytes of a page


def write(
    run: str | os.PathLike[str] | History | GANHistory,
    path: str | os.PathLike[str] | None = None,
    language: str = "en",
) -> Path:
    """Write the page of a run, or the curves of a history.

    Args:
        run: the folder that `python -m scratchnet train` wrote; or what `fit` or
            `fit_gan` returned: that page has the curves only.
        path: the file to write; by default report.html in that folder.
        language: "en" or "ko": the language that the page shows first.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: the run is damaged, its images have changed, the language is
            unknown, the page would have more than 8 MB, or the file is another one
            of the run or exists and is not the run's.

    """
    if language not in LANGUAGES:
        raise ValueError(f"report: language={language!r}; 'en' or 'ko' expected")
    if isinstance(run, (History, GANHistory)):
        if path is None:
            raise ValueError("report: a history has no folder; pass path=")
        out = checks.path("report", path)
        checkpoint.write_whole(out, render_history(run, language).encode())
        return out
    found = read(checks.path("report", run))
    made = render(found, language).encode()
    if len(made) > MOST:
        raise ValueError(
            f"report: the page would have {len(made) / 1e6:.1f} MB; at most "
            f"{MOST / 1e6:.0f} MB (smaller images or a smaller network)"
        )
    given = None if path is None else str(checks.path("report", path))
    out = found.run.file(given, REPORT)
    checkpoint.write_whole(out, made)
    return out
