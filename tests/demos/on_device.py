"""The quick demos, and the papers' rows, on the stand-in for a GPU: minutes.

python -m tests.demos.on_device          # all of them
python -m tests.demos.on_device gan vae  # some demos
"""

import math
import sys
import tempfile
from pathlib import Path

from demos.__main__ import main
from demos.papers._jobs import Job
from demos.papers._table import ROWS
from tests.backend import device


def papers(folder: Path) -> None:
    """Train and judge every row of the papers' table on little."""
    for row in ROWS.values():
        metrics = row.train(Job(row, 0, None, folder, math.inf, True, folder))
        name, value = next(iter(metrics.items()))
        print(f"  {row.name}: {name} {value:.4g}", flush=True)


def run() -> int:
    """Run what the command line names; return 1 if a claim does not hold."""
    names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name, device.use(kernels=True):
        if not names:
            papers(Path(name))
        return main(["--quick", "--out", name, *names])


if __name__ == "__main__":
    sys.exit(run())
