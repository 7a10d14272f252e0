"""`report`: write the page of a run, one HTML file that needs no network."""

import argparse

from scratchnet import report as reports
from scratchnet.runs.trained import load_run


def report(args: argparse.Namespace) -> None:
    """Write the page of a run, and print its name."""
    run = load_run(args.run, "byhand")
    out = run.file(args.out, reports.REPORT)
    path = reports.write(run.folder, out, args.lang)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, open it in a browser")
