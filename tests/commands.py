"""Commands as tests run them: in this process, on small data, without pictures.

A test can also run them in a new process: python -m tests.commands train vae ...
"""

import os
import shlex
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from scratchnet import plots
from scratchnet.cli import judge, train
from scratchnet.cli.main import main
from scratchnet.runs.files import RunCheckpoints


def run_command(capsys, command):
    """Run a command; return its status, output and errors."""
    try:
        status = main(shlex.split(command))
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def stop_after(patch, steps, number=signal.SIGTERM):
    """Make the next training send its own process a signal in that step."""

    class Stops(RunCheckpoints):
        left = steps

        def __call__(self, state):
            Stops.left -= 1
            if Stops.left == 0:
                os.kill(os.getpid(), number)
            super().__call__(state)

    patch.setattr(train, "RunCheckpoints", Stops)


def files(folder):
    """Return the content of each file in a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }  # fmt: skip


def draw_nothing(patch):
    """Write a few bytes for each picture, and judge by few draws."""
    patch.setattr(plots, "save", lambda figure, path: touched(path))
    for name in (
        "picture_rows",
        "sheets",
        "code_plane",
        "planes",
        "loss_curve",
        "game",
    ):
        patch.setattr(plots, name, lambda *args, **kwargs: None)
    patch.setattr(judge, "LIKELIHOOD_DRAWS", 2)


def touched(path):
    Path(path).write_bytes(b"a picture")
    return path


def write_data(folder, rows=4, columns=4, add=0, labels=True):
    """Write a small data set of images of that shape."""
    folder.mkdir(parents=True)
    for split, n in (("train", 12), ("t10k", 8)):
        i = np.arange(n * rows * columns).reshape(n, rows, columns)
        images = ((i * 37 + add) % 251).astype(np.uint8)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        if labels:
            label = (np.arange(n) % 4).astype(np.uint8)
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(label))
    return folder


def idx(a):
    """Return the content of an IDX file."""
    sizes = b"".join(n.to_bytes(4, "big") for n in a.shape)
    return bytes([0, 0, 8, a.ndim]) + sizes + a.tobytes()


if __name__ == "__main__":
    draw_nothing(SimpleNamespace(setattr=setattr))
    sys.exit(main(sys.argv[1:]))
