"""`encode`: write the codes of images, for other programs to read."""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np

from scratchnet.runs.trained import load_run
from scratchnet.training import checkpoint


def encode(args: argparse.Namespace) -> None:
    """Write the codes of images, without corruption, and their labels if any."""
    run = load_run(args.run, args.engine, args.command)
    suffix = Path(args.out or "codes.csv").suffix
    if suffix not in (".csv", ".npz"):
        raise ValueError(f"{args.out}: the name must end in .csv or .npz")
    images, _ = run.images(args.data, args.seed)
    x = images.x
    if run.system == "denoising":
        x = run.model.corruption.preprocess(x)
    codes = run.model.encode(x)
    label: dict[str, Any] = {}
    if images.label is not None:
        label["label"] = images.label.astype(int)
    file = io.BytesIO()
    if suffix == ".npz":
        np.savez(file, codes=codes, **label)
    else:
        columns = [f"z{i}" for i in range(codes.shape[1])]
        np.savetxt(
            file,
            np.column_stack([*label.values(), codes]),
            fmt=["%d"] * len(label) + ["%.9g"] * len(columns),
            delimiter=",",
            header=",".join([*label, *columns]),
            comments="",
        )
    path = run.file(args.out, "codes.csv")
    checkpoint.write_whole(path, file.getvalue())
    labels = ", and the labels" if label else ""
    print(f"{path}: {len(codes)} codes of {codes.shape[1]} numbers{labels}")
