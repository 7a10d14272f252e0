"""Read MNIST-format (IDX) files from a folder, and download MNIST into a cache.

An IDX file, plain or gzip, is one array; every number in it is big-endian:

    bytes 0, 1   zero
    byte 2       dtype: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64
    byte 3       the number of dimensions; then the size of each, in 4 bytes
    the rest     the items, last index fastest, and nothing after them

A header may be wrong. It is compared with the size of the file before memory is
allocated, and the data are read block by block: memory grows with the data.
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
BLOCK = 2**16  # bytes read at a time

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
    """A file, folder or download cannot be used; the message names fault and fix."""


@dataclass(frozen=True, eq=False)
class Mnist:
    """Images with their labels, if there are any.

    Attributes:
        images: float32 (n, rows, cols), 0 background, 1 full ink.
        label: int64 (n,); None if `load_mnist` was called with classes=None and there
            is no file of labels.

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
    """Read images and labels of one split from a folder of MNIST-format files.

    The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` (split
    "train") and the same with `t10k` for `train` (split "test"). The spelling
    `train-images.idx3-ubyte` is accepted too, each plain or with `.gz`. If a file
    exists in several forms, they must hold the same array. Images may have any size, so
    Fashion-MNIST and similar data sets load too.

    Args:
        folder: the folder with the files.
        split: "train" or "test".
        classes: labels must lie in 0..classes-1. With None any labels from 0 to 255 are
            accepted, and the file of labels may be missing; if it exists, it must be
            whole and match the images.
        shard: (k, m) keeps only part k = 0, ..., m - 1 of m nearly equal parts of the
            rows in memory, for a data set that is too large for one process.
        max_bytes: the most bytes of pixels, one byte each, to accept.

    Returns:
        `Mnist`: images float32 (n, rows, cols) in [0, 1], and label int64 (n,); or
        label None if classes=None and there are no labels.

    Raises:
        IdxError: a file is missing, damaged or of another kind, or labels and images do
            not match.
        ValueError: the split is unknown.

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
    """Return the files of a folder with one of the names of a split's images or labels.

    There is at least one, unless it is optional.
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
    # A folder with that name is an error: it was probably meant to be a file.
    if found or (optional and not set(names) & set(there)):
        return found
    more = f" and {len(there) - 10} more" if len(there) > 10 else ""
    alone = ", or pass classes=None for images only" if ndim == 1 else ""
    raise IdxError(
        f"{folder}: no file is named {', '.join(names)}. The folder holds:"
        f" {', '.join(map(repr, there[:10])) or 'nothing'}{more}. Put the file"
        f" there, or let download_mnist() fetch MNIST{alone}"
    )


def _read_one(
    found: Sequence[Path], stem: str, ndim: int, how: dict[str, Any]
) -> tuple[Path, NDArray[np.uint8], int]:
    """Return the path, the array (uint8, ndim dimensions) and its number of rows."""
    # torchvision keeps NAME next to NAME.gz: harmless, unless they differ.
    read = [_read(path, **how) for path in found]
    arrays = [array for array, _ in read]
    for path, array in zip(found, arrays, strict=True):
        if array.dtype != np.uint8 or array.ndim != ndim:
            raise IdxError(
                f"{path}: holds {array.dtype} of shape {array.shape}, but {stem} are"
                f" {ndim}-D uint8; is it another file, renamed?"
            )
        if not np.array_equal(array, arrays[0]):
            raise IdxError(f"{path}: differs from {found[0].name}; remove one of them")
    return found[0], *read[0]


def read_idx(
    path: str | os.PathLike[str],
    *,
    max_bytes: int = 2**30,
    shard: tuple[int, int] = (0, 1),
) -> NDArray[Any]:
    """Read the array in one IDX file, plain or gzip (detected by content, not by name).

    It allocates at most about twice the size of the data, whatever the header claims.

    Args:
        path: the file.
        max_bytes: the most bytes to accept.
        shard: (k, m) returns only part k = 0, ..., m - 1 of m nearly equal parts of the
            rows. The file is still read to its end, to check that it is whole.

    Returns:
        A new array with the file's shape and dtype, in the machine's byte order.

    Raises:
        IdxError: the file is not one whole, non-empty IDX array, or is too large. The
            message names the file and the fault.

    """
    return _read(path, max_bytes, shard)[0]


def _read(
    path: str | os.PathLike[str], max_bytes: int, shard: tuple[int, int]
) -> tuple[NDArray[Any], int]:
    """Return the array for `read_idx`, and the number of rows of the whole file."""
    path = checks.path("read_idx", path)
    checks.number("read_idx", "max_bytes", max_bytes, checks.POSITIVE)
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"read_idx: shard is {shard!r}; expected (k, m), part k of m")
    checks.count("read_idx", "shard[1]", shard[1])
    checks.count("read_idx", "shard[0]", shard[0], 0)
    if shard[0] >= shard[1]:
        raise ValueError(f"read_idx: shard is {shard}; parts are counted from 0")
    try:
        # Checked before opening: open() waits forever on a pipe without a writer.
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
    """The content of a file, unpacked and read only as far as needed."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.path = path
        self.size = os.fstat(file.fileno()).st_size
        self.room = self.size * MAX_DEFLATE_RATIO if zipped else self.size
        self.blocks = _gunzip(file) if zipped else iter(lambda: file.read(BLOCK), b"")
        self.data = bytearray()

    def filled(self, count: int) -> bool:
        """Read until `data` has count bytes; return False if the file ends before."""
        while len(self.data) < count:
            block = next(self.blocks, None)
            if block is None:
                return False
            self.data.extend(block)
        return True

    def damaged(self, fault: str) -> IdxError:
        return IdxError(f"{self.path}: {fault}; get a fresh copy of the file")


def _header(content: _Content) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the dtype and shape in the header, and the offset of its end."""
    damaged, data = content.damaged, content.data
    if not content.filled(4):
        raise damaged(f"ends after {len(data)} bytes, inside the header")
    code, ndim = data[2], data[3]
    if data[:2] != b"\0\0" or code not in DTYPES:
        raise IdxError(
            f"{content.path}: begins with {bytes(data[:4])!r}, so it is not an IDX "
            "file, which begins with two zero bytes and a dtype code, one of "
            f"{list(DTYPES)}"
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
    """Return the rows of a shard, and the number of all rows."""
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
    # The file is read to its end: a trailing byte is an error, and the checksum of a
    # gzip stream is its last part.
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
    """Yield the content of a gzip file of one member, at most BLOCK bytes at a time."""
    # zlib instead of the gzip module, which reads the name in a header byte by byte and
    # accepts any number of empty members: a small file could keep it busy.
    gunzip = zlib.decompressobj(wbits=31)  # 31: gzip's header, checksum and length
    while not gunzip.eof:
        packed = gunzip.unconsumed_tail or file.read(BLOCK)
        if not packed:
            raise zlib.error("it is cut short")
        yield gunzip.decompress(packed, BLOCK)
    if gunzip.unused_data or file.read(1):
        raise zlib.error("bytes follow its end (several parts? unpack it first)")


def download_mnist(
    cache: str | os.PathLike[str] | None = None,
    *,
    mirrors: str | Sequence[str] = MIRRORS,
    files: Mapping[str, tuple[int, str]] = MNIST_FILES,
    timeout: float = 30.0,
) -> Path:
    """Download the four files of MNIST into a cache; return the folder.

    A file with the right SHA-256 is kept, so a full cache needs no network. Any other
    file is downloaded from the first of `mirrors` that has it; a warning tells if it
    replaces a damaged file. Only http and https are used, and never more than the known
    size is read. A file gets its name only after it is complete and verified.

    Args:
        cache: the folder; by default `~/.cache/scratchnet/mnist`, or under
            XDG_CACHE_HOME if that is set.
        mirrors: the addresses of the servers.
        files: maps each name to (size in bytes, SHA-256).
        timeout: seconds without an answer before it gives up.

    Raises:
        IdxError: no mirror has a file (the message says how to place it by hand), the
            folder cannot be written, or there is no home directory for the default.

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
                    f"{path}: damaged ({damage}); downloading it again", stacklevel=2
                )
            folder.mkdir(parents=True, exist_ok=True)
            data = _fetch(path, urls, size, sha256, timeout, damage)
            # Inside the folder, so that the move is on one file system and atomic.
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
    """Return the default folder for MNIST."""
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
    """Return how a file differs from the known one, in words; None if it does not."""
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
    """Return the verified bytes of the file from the first mirror that has them.

    `damage` is the fault of the existing file, for the error.
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
        f" from another source and put it into {path.parent}, or pass its folder to"
        f" load_mnist."
    )


def _get(url: str, size: int, timeout: float) -> bytes:
    """Return the answer of a URL, at most size + 1 bytes, with a progress bar."""
    # Imported here, so that reading files needs only NumPy.
    from tqdm import tqdm

    # Not urlopen: it also accepts file: and ftp:, and ftp: after a redirect.
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
