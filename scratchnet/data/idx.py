"""Read MNIST-format (IDX) files from a folder, and download MNIST into a cache.

An IDX file, plain or gzip, is one array; every number in it is big-endian:
    bytes 0, 1   zero
    byte 2       dtype: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64
    byte 3       the number of dimensions; then the size of each, 4 bytes a size
    the rest     the items, last index fastest, and nothing after them

A header is only a claim. It is compared with what the file can hold before anything
is allocated, and the data are read block by block: memory grows with what is there.
"""

import hashlib
import http.client
import math
import os
import tempfile
import urllib.error
import urllib.request
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from scratchnet import checks

__all__ = [
    "MNIST_FILES",
    "IdxError",
    "Mnist",
    "download_mnist",
    "load_mnist",
    "read_idx",
]

# Byte 2 of the header -> the dtype on disk.
DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_DIMENSIONS = 64  # NumPy's own limit
MAX_DEFLATE_RATIO = 1032  # two bits, deflate's shortest match, stand for 258 bytes
BLOCK = 2**16  # bytes held at a time beside the result

SPLITS = {"train": "train", "test": "t10k"}

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# File name -> (size in bytes, SHA-256).
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": (
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte.gz": (
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte.gz": (
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}


class IdxError(ValueError):
    """A file, folder or download that cannot be used; names it, the fault, the fix."""


@dataclass(frozen=True, eq=False)
class Mnist:
    """Images with their labels, if they have any.

    Attributes:
        images: float32 (n, rows, cols), 0 background, 1 full ink.
        label: int64 (n,); None only if `load_mnist` was called with classes=None and
            found no file of labels.

    """

    images: NDArray[np.float32]
    label: Any

    @property
    def x(self) -> NDArray[np.float32]:
        """The images as rows, a view: (n, rows * cols)."""
        return self.images.reshape(len(self.images), -1)


def load_mnist(
    folder: str | os.PathLike[str],
    split: str = "train",
    *,
    classes: int | None = 10,
    shard: tuple[int, int] = (0, 1),
    max_bytes: int = 2**30,
) -> Mnist:
    """Images and labels of one split of a folder of MNIST-format files.

    The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` (split
    "train") and the same with `t10k` for `train` (split "test"), also spelt
    `train-images.idx3-ubyte`, each plain or with `.gz`. Where a file is there in
    several forms, they must hold the same array. Any image size is right, so that
    Fashion-MNIST and others like it load too; labels lie in 0..classes-1. With
    classes=None the labels do not matter: any are right, 0 to 255, and so are none at
    all. A file of labels that is there must still be whole, and belong to the images.

    With shard=(k, m) only part k = 0, ..., m - 1 of the rows, cut into m nearly equal
    ones, is kept in memory: one process's part of a data set too large for it. More
    than max_bytes of pixels, a byte each, are refused.

    Returns `Mnist`: images float32 (n, rows, cols) in [0, 1], label int64 (n,), or
    None where there are no labels and classes=None.
    Raises IdxError if a file is missing, damaged or of another kind, or if labels
    and images do not match; ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f'split is {split!r}: it must be "train" or "test"')
    folder = checks.path("load_mnist", folder)
    if classes is not None:
        checks.count("load_mnist", "classes", classes)
    stem = SPLITS[split]
    how: dict[str, Any] = {"shard": shard, "max_bytes": max_bytes}
    found = _files(folder, f"{stem}-images", 3)
    images_path, images, n = _read_one(found, f"{stem}-images", 3, how)
    scaled = np.divide(images, np.float32(255))
    found = _files(folder, f"{stem}-labels", 1, optional=classes is None)
    if not found:
        return Mnist(scaled, None)
    labels_path, labels, of = _read_one(found, f"{stem}-labels", 1, how)
    if of != n:
        raise IdxError(
            f"{labels_path}: {of} labels for the {n} images of {images_path.name}: the"
            f" two files belong to different data sets"
        )
    if classes is not None and labels.max() >= classes:
        row = int(np.argmax(labels >= classes))
        raise IdxError(
            f"{labels_path}: label {labels[row]} in row {row} is outside"
            f" 0..{classes - 1}; pass classes= for a data set with more classes, or"
            f" classes=None for any"
        )
    return Mnist(scaled, labels.astype(np.int64))


def _files(folder: Path, stem: str, ndim: int, *, optional: bool = False) -> list[Path]:
    """The files of a folder that have one of the names of a split's images or labels.

    At least one; an optional one may be missing.
    """
    names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    try:
        there = sorted(os.listdir(folder))
        found = [folder / name for name in names if (folder / name).is_file()]
    except OSError as error:
        raise IdxError(
            f"{folder}: not a readable folder ({error.strerror}); pass the folder that"
            f" holds the MNIST files, or let download_mnist() make one"
        ) from error
    # What has the name and is not a file was meant to be one.
    if found or (optional and not set(names) & set(there)):
        return found
    more = f" and {len(there) - 10} more" if len(there) > 10 else ""
    alone = ", or pass classes=None for images alone" if ndim == 1 else ""
    raise IdxError(
        f"{folder}: none of {', '.join(names)} is a file there. The folder holds:"
        f" {', '.join(map(repr, there[:10])) or 'nothing'}{more}. Put the file"
        f" there, or let download_mnist() fetch MNIST{alone}"
    )


def _read_one(
    found: Sequence[Path], stem: str, ndim: int, how: dict[str, Any]
) -> tuple[Path, NDArray[np.uint8], int]:
    """The path, array (uint8, ndim dimensions) and rows of what `_files` found."""
    # torchvision keeps NAME beside NAME.gz: harmless, unless they differ.
    read = [_read(path, **how) for path in found]
    arrays = [array for array, _ in read]
    for path, array in zip(found, arrays, strict=True):
        if array.dtype != np.uint8 or array.ndim != ndim:
            raise IdxError(
                f"{path}: holds {array.dtype} of shape {array.shape}, but {stem} are"
                f" {ndim}-D uint8; is it another file, renamed?"
            )
        if not np.array_equal(array, arrays[0]):
            raise IdxError(
                f"{path}: differs from {found[0].name} beside it; remove one of them"
            )
    return found[0], *read[0]


def read_idx(
    path: str | os.PathLike[str],
    *,
    max_bytes: int = 2**30,
    shard: tuple[int, int] = (0, 1),
) -> NDArray[Any]:
    """The array in one IDX file, plain or gzip (told apart by content, not by name).

    Returns a new array with the file's shape and dtype, in the machine's byte order; of
    its rows, with shard=(k, m), those of part k = 0, ..., m - 1 of m nearly equal ones.
    The others are read past, since only at its end does a file show that it is whole.
    Raises IdxError, which names the file and the fault, for anything else than one
    whole, non-empty IDX array of which at most `max_bytes` bytes are asked for.
    Allocates no more than about twice what the file really holds, whatever its header
    says.
    """
    return _read(path, max_bytes, shard)[0]


def _read(
    path: str | os.PathLike[str], max_bytes: int, shard: tuple[int, int]
) -> tuple[NDArray[Any], int]:
    """What `read_idx` returns, and how many rows the whole file has."""
    path = checks.path("read_idx", path)
    checks.number("read_idx", "max_bytes", max_bytes, checks.POSITIVE)
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"read_idx: shard is {shard!r}; (k, m) expected, part k of m")
    checks.count("read_idx", "shard[1]", shard[1])
    checks.count("read_idx", "shard[0]", shard[0], 0)
    if shard[0] >= shard[1]:
        raise ValueError(f"read_idx: shard is {shard}; parts are counted from 0")
    try:
        # Asked before opening: open() waits for ever on a pipe that nobody writes.
        if not path.is_file():
            fault = "is not a regular file" if path.exists() else "no such file"
            raise IdxError(f"{path}: {fault}; pass the path of one IDX file")
        with open(path, "rb") as file:
            return _parse(path, file, max_bytes, shard)
    except OSError as error:
        raise IdxError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    except zlib.error as error:
        raise IdxError(
            f"{path}: broken gzip: {error}; get a fresh copy of the file"
        ) from error


class _Content:
    """What a file holds, unpacked and read as far as was asked for."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.path = path
        self.size = os.fstat(file.fileno()).st_size
        self.room = self.size * MAX_DEFLATE_RATIO if zipped else self.size
        self.blocks = _gunzip(file) if zipped else iter(lambda: file.read(BLOCK), b"")
        self.data = bytearray()

    def filled(self, count: int) -> bool:
        """Read on until `data` has count bytes; False if the file ends before."""
        while len(self.data) < count:
            block = next(self.blocks, None)
            if block is None:
                return False
            self.data.extend(block)
        return True

    def damaged(self, fault: str) -> IdxError:
        return IdxError(f"{self.path}: {fault}; get a fresh copy of the file")


def _header(content: _Content) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the dtype and shape that the header promises, and where it ends."""
    damaged, data = content.damaged, content.data
    if not content.filled(4):
        raise damaged(f"ends after {len(data)} bytes, inside the header")
    code, ndim = data[2], data[3]
    if data[:2] != b"\0\0" or code not in DTYPES:
        raise IdxError(
            f"{content.path}: begins with {bytes(data[:4])!r}, so it is no IDX file: "
            f"those begin with two zero bytes and a dtype code, one of {list(DTYPES)}"
        )
    if not 1 <= ndim <= MAX_DIMENSIONS:
        raise damaged(f"its header says {ndim} dimensions, not 1 to {MAX_DIMENSIONS}")
    start = 4 + 4 * ndim
    if not content.filled(start):
        raise damaged(
            f"ends after {len(data)} bytes, inside the sizes of its {ndim} dimensions"
        )
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
    dtype = np.dtype(DTYPES[code])
    if 0 in shape:
        raise IdxError(
            f"{content.path}: empty, {dtype.name} of shape {shape}; pass a file that "
            "holds data"
        )
    return dtype, shape, start


def _parse(
    path: Path, file: BinaryIO, max_bytes: int, shard: tuple[int, int]
) -> tuple[NDArray[Any], int]:
    """Return the rows of a shard, and how many rows there are in all."""
    content = _Content(path, file)
    dtype, shape, start = _header(content)
    end = start + math.prod(shape) * dtype.itemsize  # Python ints do not overflow
    promise = f"its header promises {dtype.name} of shape {shape}, {end} bytes in all,"
    if end > content.room:
        raise content.damaged(
            f"{promise} but a file of {content.size} bytes cannot hold that"
        )
    k, m = shard
    first, last = (shape[0] * part // m for part in (k, k + 1))
    if first == last:
        raise IdxError(
            f"{path}: part {k} of {m} of {shape[0]} rows is empty; ask for fewer parts"
        )
    row = (end - start) // shape[0]
    begin, stop = start + first * row, start + last * row
    if start + stop - begin > max_bytes:
        raise IdxError(
            f"{path}: {promise} more than max_bytes={max_bytes}; if you trust the file,"
            f" pass a larger max_bytes"
        )
    # All is read, to the end: a byte more than promised would be a trailing one, and
    # only at its very end does a gzip stream hold the checksum.
    seen, data = len(content.data), content.data[begin:stop]
    for block in content.blocks:
        data += block[max(0, begin - seen) : max(0, stop - seen)]
        seen += len(block)
        if seen > end:
            break
    if seen > end:
        raise content.damaged(f"{promise} and more bytes follow")
    if seen < end:
        raise content.damaged(f"{promise} but it ends after {seen}")
    array = np.frombuffer(data, dtype).reshape(last - first, *shape[1:])
    return array.astype(dtype.newbyteorder("="), copy=False), shape[0]


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    """The content of a gzip file of one member, at most BLOCK bytes at a time."""
    # zlib itself rather than the gzip module: that one walks a header's name byte by
    # byte and takes any number of empty members, so a small file can keep it busy.
    gunzip = zlib.decompressobj(wbits=31)  # 31: gzip's header, checksum and length
    while not gunzip.eof:
        packed = gunzip.unconsumed_tail or file.read(BLOCK)
        if not packed:
            raise zlib.error("it is cut short")
        yield gunzip.decompress(packed, BLOCK)
    if gunzip.unused_data or file.read(1):
        raise zlib.error("bytes follow its end (of several parts? unpack it first)")


def download_mnist(
    cache: str | os.PathLike[str] | None = None,
    *,
    mirrors: str | Sequence[str] = MIRRORS,
    files: Mapping[str, tuple[int, str]] = MNIST_FILES,
    timeout: float = 30.0,
) -> Path:
    """Make sure that the four files of MNIST lie in the cache; returns the folder.

    `cache` is the folder, `~/.cache/scratchnet/mnist` by default (XDG_CACHE_HOME is
    respected). A file that is there with the right SHA-256 is kept, so a full cache
    needs no network; any other is fetched from the first of `mirrors` that has it
    right. `files` maps a name to (size in bytes, SHA-256); `timeout` is in seconds
    of silence. Only http and https are spoken, and never more than the known size is
    read. A file gets its name only when whole and verified. One that is there and is
    not right is damaged, or another: a warning says so, and that it is fetched again.

    Raises IdxError if no mirror gives a file (it says how to place it by hand), the
    folder cannot be written, or there is no home directory for the default folder.
    """
    folder = checks.path("download_mnist", _cache() if cache is None else cache)
    checks.mapping("download_mnist", "files", files)
    checks.number("download_mnist", "timeout", timeout, checks.POSITIVE)
    urls = [mirrors] if isinstance(mirrors, str) else mirrors
    if not isinstance(urls, list | tuple) or not all(isinstance(u, str) for u in urls):
        raise TypeError(f"download_mnist: mirrors is {mirrors!r}; addresses expected")
    for name, (size, sha256) in files.items():
        path = folder / name
        damage = None
        try:
            if path.is_file():
                damage = _damage(path, size, sha256)
                if damage is None:
                    continue
                warnings.warn(
                    f"{path}: damaged ({damage}); it is fetched again", stacklevel=2
                )
            folder.mkdir(parents=True, exist_ok=True)
            data = _fetch(path, urls, size, sha256, timeout, damage)
            # Inside the folder, so that the move is on one disk and thus atomic.
            with tempfile.TemporaryDirectory(dir=folder) as partial:
                whole = Path(partial, name)
                whole.write_bytes(data)
                os.replace(whole, path)
        except OSError as error:
            state = f"damaged ({damage}), and " if damage else ""
            raise IdxError(
                f"{path}: {state}cannot be read or written ({error}); make the folder"
                f" writable, or pass another cache="
            ) from error
    return folder


def _cache() -> Path:
    """The folder of MNIST where none is given."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        if not os.path.isabs(base):
            raise IdxError(
                f"download_mnist: XDG_CACHE_HOME is {base!r}, not an absolute path; set"
                f" it to one, or pass cache="
            )
        return Path(base, "scratchnet", "mnist")
    try:
        home: Path | None = Path.home()
    except (RuntimeError, KeyError):  # HOME is not set, and the user has no entry
        home = None
    # An empty HOME would be the root directory to Path.home().
    if home is None or not home.is_absolute() or os.environ.get("HOME") == "":
        raise IdxError(
            "download_mnist: this user has no home directory to keep MNIST in; set"
            " XDG_CACHE_HOME to an absolute path, or pass cache="
        )
    return home / ".cache" / "scratchnet" / "mnist"


def _damage(path: Path, size: int, sha256: str) -> str | None:
    """How a file differs from what it should be; None if it does not."""
    found = path.stat().st_size
    if found != size:
        return f"{found} bytes, not {size}"
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == sha256 else f"its SHA-256 is {digest}, not {sha256}"


def _fetch(
    path: Path,
    mirrors: Sequence[str],
    size: int,
    sha256: str,
    timeout: float,
    damage: str | None,
) -> bytes:
    """The verified bytes of the file path.name from the first mirror that has them.

    `damage` is what is wrong with the file that is there, for the error.
    """
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{path.name}"
        try:
            data = _get(url, size, timeout)
            found = hashlib.sha256(data).hexdigest()
            if found == sha256:
                return data
            got = f"{len(data)} bytes" if len(data) <= size else "more bytes"
            failures.append(f"{url}: another file: {got}, SHA-256 {found}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {str(error) or type(error).__name__}")
            if isinstance(error, urllib.error.HTTPError):
                error.close()
    state, there = "", ""
    if damage:
        state = f"damaged ({damage}), and "
        there = f"\nRemove {path}, or put a good copy in its place."
    raise IdxError(
        f"{path}: {state}could not be downloaded:\n  "
        + "\n  ".join(failures or ["no mirror given"])
        + there
        + f"\nTo place it by hand, get {path.name} ({size} bytes, SHA-256 {sha256})"
        f" from wherever you can and put it into {path.parent}, or pass load_mnist"
        f" the folder that holds it."
    )


def _get(url: str, size: int, timeout: float) -> bytes:
    """What the URL answers, but at most size + 1 bytes; a bar on a terminal."""
    # Imported here, so that reading files needs NumPy alone.
    from tqdm import tqdm

    # Not urlopen: that also speaks file: and ftp:, the latter after a redirect too.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    name = url.rpartition("/")[2]
    data = bytearray()
    with (
        opener.open(url, timeout=timeout) as response,
        tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None) as bar,
    ):
        while len(data) <= size:
            block = response.read1(min(BLOCK, size + 1 - len(data)))
            if not block:
                break
            data.extend(block)
            bar.update(len(block))
    return bytes(data)
