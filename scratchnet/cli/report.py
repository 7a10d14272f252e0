"""`report`: write the page of a run, one HTML file that needs no network."""

import argparse

from scratchnet import report as reports


def report(args: argparse.Namespace) -> None:
    """Write the page of a run, and print its name."""
    path = reports.write(args.run, args.out, args.lang)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, open it in a browser")
