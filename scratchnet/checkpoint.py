"""Writes named arrays to a file and reads them back, without pickle.

The file is NumPy's .npz, an archive of one .npy file for each array, with a JSON text
beside them that says what they are.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array

_ABOUT = "about.json"  # the name of the JSON text among the arrays


def save(path: str | Path, arrays: Mapping[str, Array], **about: Any) -> Path:
    """Write `arrays` and the facts `about` them to `path`, whole or not at all.

    A file that stood there is replaced only once the new one is complete.

    Args:
        path: the file; its folder must exist.
        arrays: a `state_dict`, say.
        **about: anything that JSON can hold.

    Raises:
        OSError: the file cannot be written; what stood there still stands.
        TypeError: JSON cannot hold something in `about`.
        ValueError: an array has the name kept for the facts.

    """
    path = Path(path)
    if _ABOUT in arrays:
        raise ValueError(f"checkpoint: the name {_ABOUT!r} is taken")
    content = {**arrays, _ABOUT: np.array(json.dumps(about))}
    # In the same folder, because a rename is whole only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, a in content.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(
                            entry, backend.to_numpy(a), allow_pickle=False
                        )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save` wrote: the arrays, and the facts about them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not one that `save` wrote.

    """
    try:
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                with archive.open(entry) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                    arrays[entry.removesuffix(".npy")] = array
        about = json.loads(str(arrays.pop(_ABOUT)))
        return arrays, about
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever zipfile, zlib, NumPy and JSON make of it
        raise ValueError(f"{path}: not a file of weights ({error})") from error
