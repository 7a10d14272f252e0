"""Tests of the IDX reader and of the download; the network is a local server."""

import errno
import gzip
import hashlib
import http.server
import io
import os
import random
import struct
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scratchnet.data.idx import (
    IdxError,
    Mnist,
    download_mnist,
    load_mnist,
    read_idx,
)
from tests.helpers import mutate

MIB = 2**20
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}

# The examples of a test share tmp_path; each writes its file before reading.
REUSE_FOLDER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def idx_bytes(array):
    """Write by struct, item by item: this shares no code with the reader."""
    kind = {"uint8": "B", "int8": "b", "int16": "h", "int32": "i"}.get(array.dtype.name)
    kind = kind or {"float32": "f", "float64": "d"}[array.dtype.name]
    items = struct.pack(f">{array.size}{kind}", *array.ravel().tolist())
    return header(CODES[array.dtype.name], *array.shape) + items


def idx_bytes_fast(array):
    """Write by NumPy, for arrays too large for the slow writer."""
    swapped = array.astype(array.dtype.newbyteorder(">"))
    return header(CODES[array.dtype.name], *array.shape) + swapped.tobytes()


def gz(content):
    return gzip.compress(content, mtime=0)


def write(path, content):
    path.write_bytes(content)
    return path


def images_and_labels(n=6, rows=5, cols=4, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, rows, cols), dtype=np.uint8)
    return images, rng.integers(0, 10, n, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Write a tiny folder like MNIST's: train plain, test gzip with dotted names."""
    images, labels = images_and_labels()
    write(tmp_path / "train-images-idx3-ubyte", idx_bytes(images))
    write(tmp_path / "train-labels-idx1-ubyte", idx_bytes(labels))
    images, labels = images_and_labels(n=3, seed=1)
    write(tmp_path / "t10k-images.idx3-ubyte.gz", gz(idx_bytes(images)))
    write(tmp_path / "t10k-labels.idx1-ubyte.gz", gz(idx_bytes(labels)))
    return tmp_path


# One correct file


@st.composite
def idx_arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(sorted(CODES))))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=4))
    elements = hnp.from_dtype(dtype, allow_nan=False) if dtype.kind == "f" else None
    return draw(hnp.arrays(dtype, shape, elements=elements))


@REUSE_FOLDER
@given(array=idx_arrays(), pack=st.sampled_from([bytes, gz]))
def test_round_trip(tmp_path, array, pack):
    found = read_idx(write(tmp_path / "a", pack(idx_bytes(array))))
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()  # -0.0 too
    assert found.flags.writeable
    assert found.flags.aligned


def test_bytes_worked_by_hand(tmp_path):
    content = b"\0\0\x0b\x02\0\0\0\x02\0\0\0\x01\x01\x02\xff\xfe"
    found = read_idx(write(tmp_path / "a", content))
    np.testing.assert_array_equal(found, np.array([[258], [-2]], np.int16))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_values_like_any_other(tmp_path, value):
    content = header(14, 1) + struct.pack(">d", value)
    np.testing.assert_array_equal(read_idx(write(tmp_path / "a", content)), [value])


@pytest.mark.parametrize("ndim", [1, 32, 64])
def test_many_dimensions(tmp_path, ndim):
    content = header(8, *[1] * ndim) + b"\x07"
    assert read_idx(write(tmp_path / "a", content)).shape == (1,) * ndim


def test_the_content_decides_not_the_name(tmp_path):
    array = np.arange(6, dtype=np.uint8)
    for name, pack in (("plain.gz", bytes), ("packed", gz)):
        path = write(tmp_path / name, pack(idx_bytes(array)))
        np.testing.assert_array_equal(read_idx(str(path)), array)


def test_larger_than_a_block(tmp_path):
    array = np.random.default_rng(0).integers(-9, 9, 100_000, dtype=np.int32)
    for pack in (bytes, gz):
        found = read_idx(write(tmp_path / "a", pack(idx_bytes_fast(array))))
        np.testing.assert_array_equal(found, array)


def test_every_size_about_the_block_boundary(tmp_path):
    # The last byte of output can be on either side of the decompressor's block.
    for size in range(2**16 - 12, 2**16 + 4):
        for array in (np.zeros(size, np.uint8), np.arange(size, dtype=np.uint8)):
            found = read_idx(write(tmp_path / "a", gz(idx_bytes_fast(array))))
            np.testing.assert_array_equal(found, array)


def test_gzip_with_every_header_field(tmp_path):
    body = idx_bytes(np.arange(9, dtype=np.uint8))
    deflate = zlib.compressobj(wbits=-15)
    raw = deflate.compress(body) + deflate.flush()
    fields = b"\x03\0abc" + b"name\0" + b"comment\0"
    content = b"\x1f\x8b\x08\x1c\0\0\0\0\0\x03" + fields + raw
    content += struct.pack("<2I", zlib.crc32(body), len(body))
    assert read_idx(write(tmp_path / "a", content)).tolist() == list(range(9))


# One wrong file

GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))

WRONG = {
    "nothing": (b"", "ends after 0 bytes, inside the header"),
    "3 bytes": (GOOD[:3], "ends after 3 bytes, inside the header"),
    "half the sizes": (GOOD[:10], "ends after 10 bytes, inside the sizes of its 3"),
    "PNG": (b"\x89PNG" + GOOD, r"begins with b'\\x89PNG', so it is not an IDX file"),
    "web page": (b"<html></html>", "begins with b'<htm', so it is not an IDX file"),
    "zip": (b"PK\x03\x04" + GOOD, "so it is not an IDX file"),
    "NumPy": (b"\x93NUMPY" + GOOD, "so it is not an IDX file"),
    "pickle": (b"\x80\x04\x95\0" + GOOD, "so it is not an IDX file"),
    "little-endian": (b"\x03\x08\0\0" + GOOD[4:], "so it is not an IDX file"),
    "first byte": (b"\x01" + GOOD[1:], "so it is not an IDX file"),
    "second byte": (b"\0\x01" + GOOD[2:], "so it is not an IDX file"),
    "dtype code": (b"\0\0\x0a\x03" + GOOD[4:], r"a dtype code, one of \[8, 9, 11,"),
    "0-d": (header(8) + b"\x01", "says 0 dimensions, not 1 to 64"),
    "65-d": (header(8, *[1] * 65) + b"\x01", "says 65 dimensions, not 1 to 64"),
    "empty": (header(8, 0), r"empty, uint8 of shape \(0,\)"),
    "empty, huge": (header(14, 0, 2**32 - 1), "empty, float64 of shape"),
    "1 byte short": (GOOD[:-1], r"shape \(2, 3, 4\), 40 bytes .* file of 39 bytes"),
    "1 byte long": (GOOD + b"\0", "40 bytes in all, and more bytes follow"),
    "items short": (header(14, 2) + b"\0" * 15, "a file of 23 bytes cannot hold"),
    "two arrays": (GOOD + GOOD, "and more bytes follow"),
    "huge": (header(8, 2**31, 2**31) + b"\0" * 8, "4611686018427387916 bytes in all"),
    "product = 2**64": (header(14, 2**31, 2**30) + b"\0" * 8, "cannot hold that"),
    "product > 2**64": (header(8, *[2**32 - 1] * 3) + b"\0", "cannot hold that"),
    "gzip, short": (gz(GOOD[:-1]), "40 bytes in all, but it ends after 39"),
    "gzip, long": (gz(GOOD + b"\0"), "and more bytes follow"),
    "gzip, huge": (gz(header(8, 2**31, 2**31)), "bytes cannot hold that"),
    "gzip of nothing": (gz(b""), "ends after 0 bytes, inside the header"),
    "gzip of gzip": (gz(gz(GOOD)), "so it is not an IDX file"),
    "gzip, cut": (gz(GOOD)[:-9], "broken gzip: it is cut short"),
    "gzip, no checksum": (gz(GOOD)[:-8], "broken gzip: it is cut short"),
    "gzip, header only": (gz(GOOD)[:5], "broken gzip: it is cut short"),
    "gzip, magic only": (b"\x1f\x8b", "broken gzip: it is cut short"),
    "gzip, method": (b"\x1f\x8b\x07" + gz(GOOD)[3:], "broken gzip: .*unknown compr"),
    "gzip, checksum": (gz(GOOD)[:-8] + b"\0" * 8, "broken gzip: .*incorrect data"),
    "gzip, length": (gz(GOOD)[:-4] + b"\0" * 4, "broken gzip: .*incorrect length"),
    "gzip, deflate": (gz(GOOD)[:10] + b"\xff" * 30, "broken gzip: .*invalid block"),
    "gzip, trailing": (gz(GOOD) + b"\0", "broken gzip: bytes follow its end"),
    "gzip, 2 members": (
        gz(GOOD[:9]) + gz(GOOD[9:]),
        "broken gzip: bytes follow its end",
    ),
    "gzip, repeated": (gz(GOOD) + gz(GOOD), "broken gzip: bytes follow its end"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(tmp_path, case):
    content, message = WRONG[case]
    path = write(tmp_path / "train-images-idx3-ubyte", content)
    with pytest.raises(IdxError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert isinstance(caught.value, ValueError)


def test_trailing_bytes_that_begin_with_a_block(tmp_path):
    # The stream fills the first block, so that only reading on finds the rest.
    for size in range(2**16 - 100, 2**16):
        packed = gzip.compress(idx_bytes_fast(np.zeros(size, np.uint8)), 0, mtime=0)
        if len(packed) == 2**16:
            break
    assert read_idx(write(tmp_path / "a", packed)).size == size
    with pytest.raises(IdxError, match="bytes follow its end"):
        read_idx(write(tmp_path / "a", packed + b"\0"))


def test_the_best_ratio_of_deflate_is_accepted(tmp_path):
    packed = gz(idx_bytes_fast(np.zeros(8 * MIB, np.uint8)))
    assert len(packed) * 1000 < 8 * MIB
    assert not read_idx(write(tmp_path / "a", packed)).any()


def test_not_a_file(tmp_path):
    with pytest.raises(IdxError, match="absent: no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(IdxError, match="is not a regular file"):
        read_idx(tmp_path)
    with pytest.raises(IdxError, match="no such file"):
        read_idx(tmp_path / "a\0b")
    with pytest.raises(IdxError, match="cannot be read"):
        read_idx(tmp_path / ("a" * 5000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(IdxError, match="is not a regular file"):
        read_idx(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(IdxError, match="The folder holds: 'train-images-idx3-ubyte'"):
        load_mnist(tmp_path)


def test_unreadable(tmp_path, monkeypatch):
    # Simulated: chmod does not stop an administrator, who may run the tests.
    path = write(tmp_path / "a", GOOD)

    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(IdxError, match=r"a: cannot be read \(Permission denied\)"):
        read_idx(path)


def test_max_bytes(tmp_path):
    path = write(tmp_path / "a", GOOD)
    assert read_idx(path, max_bytes=40).size == 24
    with pytest.raises(IdxError, match="40 bytes in all, more than max_bytes=39"):
        read_idx(path, max_bytes=39)


# Any bytes give IdxError or a valid array


@st.composite
def damaged_files(draw):
    content = draw(st.sampled_from([GOOD, idx_bytes(np.ones((3, 2), np.float32))]))
    content = bytearray(draw(st.sampled_from([bytes, gz]))(content))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "set"]))
        if kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=9))
        elif place < len(content):
            new = draw(st.integers(0, 255))
            content[place] = new if kind == "set" else content[place] ^ 1 << new % 8
    # Half of them are packed again, so that gzip's checksum hides no other error.
    return draw(st.sampled_from([bytes, gz]))(bytes(content))


@REUSE_FOLDER
@given(content=damaged_files() | st.binary(max_size=60))
def test_damaged_bytes(tmp_path, content):
    path = write(tmp_path / "a", content)
    try:
        array = read_idx(path)
    except IdxError:
        return
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert array.size >= 1
    assert len(plain) == 4 + 4 * array.ndim + array.nbytes
    big_endian = array.astype(array.dtype.newbyteorder(">")).tobytes()
    assert plain.endswith(big_endian)  # all values are those of the file


@pytest.mark.parametrize("pack", [bytes, gz])
def test_every_truncation_and_every_bit(tmp_path, pack):
    content = pack(GOOD)
    for length in range(len(content)):
        with pytest.raises(IdxError):
            read_idx(write(tmp_path / "a", content[:length]))
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path = write(tmp_path / "a", flipped)
        try:
            array = read_idx(path)
        except IdxError:
            continue
        # A flip may leave a valid file: in the items, uint8 as int8, gzip's dates.
        assert array.shape == (2, 3, 4)
        assert array.dtype in (np.uint8, np.int8)


# Memory


def peak_of_refusal(path, message, **options):
    with pytest.raises(IdxError, match=message):  # once before: imports, caches
        read_idx(path, **options)
    tracemalloc.start()
    try:
        with pytest.raises(IdxError, match=message):
            read_idx(path, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zeros_gz(start, mebibytes):
    """Return a gzip bomb: `start`, then zeros, packed block by block."""
    deflate = zlib.compressobj(level=1, wbits=31)
    zeros = bytes(MIB)
    packed = [deflate.compress(start)]
    packed += [deflate.compress(zeros) for _ in range(mebibytes)]
    return b"".join([*packed, deflate.flush()])


@pytest.mark.parametrize("shape", [(2**31, 2**31), (2**32 - 1,), (10_000, 28, 28)])
@pytest.mark.parametrize("pack", [bytes, gz])
def test_memory_is_not_allocated_by_the_header_alone(tmp_path, shape, pack):
    path = write(tmp_path / "a", pack(header(8, *shape) + bytes(8)))
    assert peak_of_refusal(path, "cannot hold that") < MIB


def test_a_gzip_bomb_is_unpacked_only_as_far_as_its_header_promises(tmp_path):
    bomb = zeros_gz(header(8, 10, 28, 28), 32)
    assert len(bomb) < MIB
    path = write(tmp_path / "a", bomb)
    assert peak_of_refusal(path, "and more bytes follow") < MIB


def test_a_gzip_bomb_whose_header_agrees_with_it(tmp_path):
    path = write(tmp_path / "a", zeros_gz(header(8, 32, 2**20), 32))
    assert peak_of_refusal(path, "more than max_bytes", max_bytes=2**24) < MIB


def test_memory_grows_only_with_the_data_in_the_file(tmp_path):
    # The header claims 32 MiB, which is possible by the file's size; 1 MiB follows.
    noise = np.random.default_rng(0).bytes(MIB)
    packed = gz(header(8, 32, 2**20) + noise)
    path = write(tmp_path / "a", packed)
    assert peak_of_refusal(path, "but it ends after 1048588") < 3 * MIB


def test_a_sparse_file_of_a_tebibyte(tmp_path):
    path = write(tmp_path / "a", header(8, 2**20, 2**20))
    try:
        os.truncate(path, 12 + 2**40)
    except OSError:
        os.truncate(path, 12 + 2**33)  # a file system that has no such large files
    assert peak_of_refusal(path, "more than max_bytes|cannot hold that") < MIB


# A folder


def test_load_mnist(folder):
    for split, n, seed in (("train", 6, 0), ("test", 3, 1)):
        images, labels = images_and_labels(n=n, seed=seed)
        data = load_mnist(folder, split)
        assert isinstance(data, Mnist)
        assert data.images.dtype == np.float32
        assert data.images.shape == (n, 5, 4)
        np.testing.assert_array_equal(data.images, np.float32(images) / np.float32(255))
        assert data.label.dtype == np.int64
        np.testing.assert_array_equal(data.label, labels)
        assert data.x.shape == (n, 20)
        assert np.shares_memory(data.x, data.images)
        np.testing.assert_array_equal(data.x[1], data.images[1].ravel())


def test_black_and_white_are_exactly_0_and_1(tmp_path):
    images = np.array([[[0, 255]]], np.uint8)
    write(tmp_path / "train-images-idx3-ubyte", idx_bytes(images))
    write(tmp_path / "train-labels-idx1-ubyte", idx_bytes(np.zeros(1, np.uint8)))
    assert load_mnist(str(tmp_path)).images.tolist() == [[[0.0, 1.0]]]


def test_split_must_be_one_of_two(folder):
    with pytest.raises(ValueError, match="split is 'valid': it must be"):
        load_mnist(folder, "valid")


def fuzz(folder, seed, n):
    """Load n folders, each with one damaged file; return how many were refused."""
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    source = random.Random(seed)
    refused = []
    slowest = 0.0
    for _ in range(n):
        path = source.choice(list(whole))
        content = mutate(whole[path], source)
        path.write_bytes(content)
        split = "test" if path.name.startswith("t10k") else "train"
        began = time.perf_counter()
        try:
            data = load_mnist(folder, split)
        except IdxError as error:
            slowest = max(slowest, time.perf_counter() - began)
            refused.append((path.name[:12], str(error)))
        else:
            slowest = max(slowest, time.perf_counter() - began)
            # Without a checksum, changed items are read as they are in the file.
            zipped = content[:2] == b"\x1f\x8b"
            plain = gzip.decompress(content) if zipped else content
            read = (
                data.images * np.float32(255) if "images" in path.name else data.label
            )
            assert plain.endswith(np.rint(read).astype(np.uint8).tobytes())
            assert len(plain) == read.size + 4 + 4 * read.ndim
        path.write_bytes(whole[path])
    assert all(name in message for name, message in refused)
    print(f"{len(refused)} of {n} refused, the others read as they were; the slowest "
          f"took {slowest:.3f} s")  # fmt: skip
    return len(refused)


@REUSE_FOLDER
@given(seed=st.integers(0, 2**32))
def test_damaged_folders_are_refused_or_read_as_they_are(folder, seed):
    fuzz(folder, seed, 5)


@pytest.mark.slow
def test_100_000_damaged_folders(folder):
    assert fuzz(folder, 0, 100_000) > 50_000


def test_a_missing_file_lists_the_names_tried_and_found(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(IdxError) as caught:
        load_mnist(folder)
    message = str(caught.value)
    for part in (
        str(folder),
        "train-labels-idx1-ubyte.gz",
        "train-labels.idx1-ubyte,",
        "'t10k-images.idx3-ubyte.gz'",
        "download_mnist()",
    ):
        assert part in message


def test_an_empty_and_a_full_folder(tmp_path):
    with pytest.raises(IdxError, match=r"The folder holds: nothing\. Put"):
        load_mnist(tmp_path)
    for i in range(25):
        write(tmp_path / f"{i:02}.png", b"")
    with pytest.raises(IdxError, match=r"'09\.png' and 15 more"):
        load_mnist(tmp_path)


def test_not_a_folder(folder):
    with pytest.raises(IdxError, match=r"absent: not a readable folder \(No such"):
        load_mnist(folder / "absent")
    with pytest.raises(IdxError, match=r"not a readable folder \(Not a dir"):
        load_mnist(folder / "train-images-idx3-ubyte")


def test_two_spellings_that_agree_are_one_file(folder):
    # torchvision leaves a folder like this: each file unpacked next to its .gz.
    content = (folder / "train-images-idx3-ubyte").read_bytes()
    write(folder / "train-images-idx3-ubyte.gz", gz(content))
    assert len(load_mnist(folder).images) == 6


def test_two_spellings_that_differ_are_refused(folder):
    images, _ = images_and_labels(seed=2)
    write(folder / "train-images.idx3-ubyte.gz", gz(idx_bytes(images)))
    with pytest.raises(IdxError, match="differs from train-images-idx3-ubyte; remove"):
        load_mnist(folder)


def test_a_folder_with_the_name_of_the_file_does_not_hide_it(folder):
    (folder / "t10k-images-idx3-ubyte").mkdir()
    assert len(load_mnist(folder, "test").images) == 3


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("images-idx3", np.zeros((6, 20), np.uint8), r"uint8 of shape \(6, 20\), but"),
        ("images-idx3", np.zeros((6, 5, 4), np.float32), "holds float32"),
        ("images-idx3", np.zeros(6, np.uint8), "but train-images are 3-D uint8"),
        ("images-idx3", np.zeros((5, 5, 4), np.uint8), "6 labels for the 5 images of"),
        ("labels-idx1", np.zeros((6, 5, 4), np.uint8), "but train-labels are 1-D"),
        ("labels-idx1", np.zeros(6, np.int32), r"holds int32 of shape \(6,\)"),
        ("labels-idx1", np.zeros(6, np.int8), r"holds int8 of shape \(6,\)"),
        ("labels-idx1", np.zeros(7, np.uint8), "7 labels for the 6 images of"),
        ("labels-idx1", np.array([0, 9, 10, 1, 2, 3], np.uint8), "label 10 in row 2"),
    ],
)
def test_wrong_kind_of_array(folder, name, array, message):
    path = write(folder / f"train-{name}-ubyte", idx_bytes(array))
    with pytest.raises(IdxError, match=message) as caught:
        load_mnist(folder)
    assert path.name in str(caught.value)


def test_more_classes(folder):
    labels = np.array([1, 26, 2, 3, 4, 5], np.uint8)
    write(folder / "train-labels-idx1-ubyte", idx_bytes(labels))
    with pytest.raises(IdxError, match=r"outside 0..25; pass classes="):
        load_mnist(folder, classes=26)
    np.testing.assert_array_equal(load_mnist(folder, classes=27).label, labels)


@pytest.mark.parametrize("greatest", [9, 10, 26, 46, 61, 99, 255])
def test_any_classes(folder, greatest):
    labels = np.array([1, greatest, 2, 3, 4, 5], np.uint8)
    write(folder / "train-labels-idx1-ubyte", idx_bytes(labels))
    found = load_mnist(folder, classes=None)
    assert found.label.dtype == np.int64
    np.testing.assert_array_equal(found.label, labels)
    assert found.images.shape == (6, 5, 4)
    if greatest > 9:
        with pytest.raises(IdxError, match=f"label {greatest} in row 1 is outside 0..9;"
                           " pass classes= .* or classes=None for any"):  # fmt: skip
            load_mnist(folder)


def test_images_without_labels(folder):
    expected = load_mnist(folder).images
    (folder / "train-labels-idx1-ubyte").unlink()
    found = load_mnist(folder, classes=None)
    assert found.label is None
    np.testing.assert_array_equal(found.images, expected)
    np.testing.assert_array_equal(found.x, expected.reshape(6, 20))
    part = load_mnist(folder, classes=None, shard=(1, 3))
    assert part.label is None
    np.testing.assert_array_equal(part.images, expected[2:4])
    with pytest.raises(IdxError, match=r"train-labels.*, or pass classes=None for im"):
        load_mnist(folder)
    (folder / "train-images-idx3-ubyte").unlink()
    with pytest.raises(IdxError, match="no file is named train-images-idx3-ubyte, "):
        load_mnist(folder, classes=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(np.zeros(5, np.uint8)), "5 labels for the 6 images of"),
        (idx_bytes(np.zeros((6, 1), np.uint8)), "but train-labels are 1-D"),
        (idx_bytes(np.zeros(6, np.int32)), "holds int32"),
        (idx_bytes(np.zeros(6, np.uint8))[:-1], "a file of 13 bytes cannot hold that"),
        (b"", "ends after 0 bytes"),
        (gz(idx_bytes(np.zeros(6, np.uint8)))[:-1], "broken gzip"),
        ("folder", "no file is named train-labels-idx1-ubyte, "),
        ("link", "no file is named train-labels-idx1-ubyte, "),
    ],
)
def test_existing_labels_must_be_right(folder, content, message):
    path = folder / "train-labels-idx1-ubyte"
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "link":
        path.symlink_to(folder / "nowhere")
    else:
        write(path, content)
    for classes in (None, 10):
        with pytest.raises(IdxError, match=message):
            load_mnist(folder, classes=classes)


def test_a_shard_of_other_labels_is_refused(folder):
    # Part 0 of 2 has 3 rows, of 6 and of 7.
    write(folder / "train-labels-idx1-ubyte", idx_bytes(np.zeros(7, np.uint8)))
    with pytest.raises(IdxError, match="7 labels for the 6 images of"):
        load_mnist(folder, shard=(0, 2))


# The download


class Server:
    """A mirror at 127.0.0.1; `pages` maps a path to its bytes or to a function."""

    def __init__(self):
        self.pages = {}
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                page = outer.pages.get(self.path)
                try:
                    if page is None:
                        self.send_error(404)
                    elif callable(page):
                        page(self)
                    else:
                        self.send_response(200)
                        self.send_header("Content-Length", str(len(page)))
                        self.end_headers()
                        self.wfile.write(page)
                except ConnectionError:
                    pass  # the client closed the connection

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.005,))
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def mirror(server):
    """Serve a tiny data set under /mnist/; `files` is its table."""
    server.files = {}
    server.content = {}
    for prefix, n in (("train", 4), ("t10k", 2)):
        images, labels = images_and_labels(n=n)
        for name, array in (
            (f"{prefix}-images-idx3-ubyte.gz", images),
            (f"{prefix}-labels-idx1-ubyte.gz", labels),
        ):
            content = gz(idx_bytes(array))
            server.pages[f"/mnist/{name}"] = server.content[name] = content
            server.files[name] = (len(content), hashlib.sha256(content).hexdigest())
    return server


IMAGES = "train-images-idx3-ubyte.gz"


def fetch(server, cache, *mirrors, **options):
    mirrors = mirrors or [f"{server.url}/mnist/"]
    return download_mnist(cache, mirrors=mirrors, files=server.files, **options)


def assert_whole(server, cache):
    found = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert found == server.content  # no partial files


def test_download(mirror, tmp_path, capfd):
    cache = tmp_path / "a" / "b"
    assert fetch(mirror, cache) == cache
    assert_whole(mirror, cache)
    assert len(load_mnist(cache).images) == 4
    assert len(load_mnist(cache, "test").images) == 2
    assert capfd.readouterr() == ("", "")


def test_one_mirror_may_be_a_string_with_or_without_slash(mirror, tmp_path):
    fetch_all = {"files": mirror.files, "mirrors": f"{mirror.url}/mnist"}
    assert_whole(mirror, download_mnist(str(tmp_path), **fetch_all))


def test_existing_files_are_kept_and_need_no_network(mirror, tmp_path):
    fetch(mirror, tmp_path)
    mirror.asked.clear()
    assert fetch(mirror, tmp_path) == tmp_path
    assert mirror.asked == []


def test_only_missing_files_are_fetched(mirror, tmp_path):
    fetch(mirror, tmp_path)
    mirror.asked.clear()
    (tmp_path / IMAGES).unlink()
    fetch(mirror, tmp_path)
    assert mirror.asked == [f"/mnist/{IMAGES}"]
    assert_whole(mirror, tmp_path)


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty"])
def test_a_corrupt_file_in_the_cache_is_replaced(mirror, tmp_path, damage):
    fetch(mirror, tmp_path)
    mirror.asked.clear()
    good = mirror.content[IMAGES]
    bad = {
        "flip": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[:-1],
        "grow": good + b"\0",
        "empty": b"",
    }[damage]
    write(tmp_path / IMAGES, bad)
    found = len(bad) if len(bad) != len(good) else "its SHA-256 is "
    message = rf"{IMAGES}: damaged \({found}.*\); downloading it again"
    with pytest.warns(UserWarning, match=message):
        fetch(mirror, tmp_path)
    assert mirror.asked == [f"/mnist/{IMAGES}"]
    assert_whole(mirror, tmp_path)


def refused(server, cache, *mirrors, **options):
    """Return the error of a download that must fail and leave the cache unchanged."""
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    with pytest.raises(IdxError) as caught:
        fetch(server, cache, *mirrors, **options)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before
    return str(caught.value)


def test_404_names_the_file_the_url_and_the_remedy(mirror, tmp_path):
    del mirror.pages[f"/mnist/{IMAGES}"]
    message = refused(mirror, tmp_path)
    size, sha256 = mirror.files[IMAGES]
    for part in (
        f"{tmp_path / IMAGES}: could not be downloaded",
        f"{mirror.url}/mnist/{IMAGES}: HTTP Error 404",
        "by hand",
        f"({size} bytes, SHA-256 {sha256})",
        f"put it into {tmp_path}",
    ):
        assert part in message


def test_a_wrong_file_is_refused(mirror, tmp_path):
    write(tmp_path / IMAGES, b"older and also wrong")
    good = mirror.content[IMAGES]
    mirror.pages[f"/mnist/{IMAGES}"] = bytes(len(good))
    with pytest.warns(UserWarning, match="damaged"):
        message = refused(mirror, tmp_path)
    sha256 = hashlib.sha256(bytes(len(good))).hexdigest()
    assert f"another file: {len(good)} bytes, SHA-256 {sha256}" in message


def test_the_next_mirror_is_tried(mirror, tmp_path):
    urls = [f"{mirror.url}/absent/", f"{mirror.url}/wrong/", f"{mirror.url}/mnist/"]
    for name in mirror.files:
        mirror.pages[f"/wrong/{name}"] = b"<html>please log in</html>"
    fetch(mirror, tmp_path, *urls)
    assert_whole(mirror, tmp_path)
    folders = [path.split("/")[1] for path in mirror.asked]
    assert folders == ["absent", "wrong", "mnist"] * 4


def test_all_mirrors_are_named_when_all_fail(mirror, tmp_path):
    message = refused(mirror, tmp_path, f"{mirror.url}/x", f"{mirror.url}/y")
    assert f"{mirror.url}/x/{IMAGES}: HTTP Error 404" in message
    assert f"{mirror.url}/y/{IMAGES}: HTTP Error 404" in message


def test_no_network(mirror, tmp_path):
    mirror.close()  # no server listens at this port now
    message = refused(mirror, tmp_path)
    assert f"{mirror.url}/mnist/{IMAGES}: <urlopen error" in message
    assert "To place it by hand" in message


@pytest.mark.parametrize("change", [1, 0])
def test_a_damaged_file_is_named_without_a_network(mirror, tmp_path, change):
    size, sha256 = mirror.files[IMAGES]
    path = write(tmp_path / IMAGES, bytes(size + change))
    mirror.close()
    with pytest.warns(UserWarning, match="damaged"):
        message = refused(mirror, tmp_path)
    digest = hashlib.sha256(bytes(size)).hexdigest()
    damage = (
        f"{size + 1} bytes, not {size}" if change
        else f"its SHA-256 is {digest}, not {sha256}"
    )  # fmt: skip
    for part in (
        f"{path}: damaged ({damage}), and could not be downloaded:\n",
        f"{mirror.url}/mnist/{IMAGES}: <urlopen error",
        f"Remove {path}, or put a good copy in its place.",
        f"get {IMAGES} ({size} bytes, SHA-256 {sha256})",
    ):
        assert part in message


def test_a_damaged_file_that_cannot_be_replaced(mirror, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    write(tmp_path / IMAGES, b"short")
    monkeypatch.setattr(Path, "write_bytes", full)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(IdxError, match=r"damaged \(5 bytes, not \d+\), and cannot be "
                      r"read or written \(.*Read-only"),
    ):  # fmt: skip
        fetch(mirror, tmp_path)


def test_no_mirror(mirror, tmp_path):
    with pytest.raises(IdxError, match="no mirror given"):
        download_mnist(tmp_path, mirrors=[], files=mirror.files)


def test_a_cut_answer_is_refused(mirror, tmp_path):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(mirror.files[IMAGES][0]))
        handler.end_headers()
        handler.wfile.write(mirror.content[IMAGES][:50])

    mirror.pages[f"/mnist/{IMAGES}"] = cut
    assert f"{mirror.url}/mnist/{IMAGES}" in refused(mirror, tmp_path)


def test_never_more_than_the_known_size_is_read(mirror, tmp_path):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(bytes(MIB))
            sent.append(MIB)

    mirror.pages[f"/mnist/{IMAGES}"] = endless
    tracemalloc.start()
    try:
        message = refused(mirror, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "another file: more bytes" in message
    assert peak < 10 * MIB
    assert len(sent) < 100  # the sockets buffer a few blocks


def test_a_silent_server_is_given_up(mirror, tmp_path):
    enough = threading.Event()
    mirror.pages[f"/mnist/{IMAGES}"] = lambda handler: enough.wait(2)
    try:
        assert "timed out" in refused(mirror, tmp_path, timeout=0.1)
    finally:
        enough.set()


def test_an_answer_that_is_not_http(mirror, tmp_path):
    mirror.pages[f"/mnist/{IMAGES}"] = lambda handler: handler.wfile.write(b"220 hi\n")
    message = refused(mirror, tmp_path)
    assert f"{mirror.url}/mnist/{IMAGES}: 220 hi" in message


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "nonsense", ""])
def test_only_http(mirror, tmp_path, scheme):
    source = tmp_path / "source"
    cache = tmp_path / "cache"
    for made in (source, cache):
        made.mkdir()
    for name, content in mirror.content.items():
        write(source / name, content)
    link = f"{scheme}://{source}" if scheme else str(source)
    assert "unknown url type" in refused(mirror, cache, link)


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_a_redirect_does_not_leave_http(mirror, tmp_path, scheme):
    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", f"{scheme}://127.0.0.1/etc/hostname")
        handler.end_headers()

    mirror.pages[f"/mnist/{IMAGES}"] = redirect
    message = refused(mirror, tmp_path)
    assert "not allowed" in message or "unknown url type" in message


def test_a_redirect_within_http_is_followed(mirror, tmp_path):
    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", f"/elsewhere/{IMAGES}")
        handler.end_headers()

    mirror.pages[f"/elsewhere/{IMAGES}"] = mirror.pages[f"/mnist/{IMAGES}"]
    mirror.pages[f"/mnist/{IMAGES}"] = redirect
    assert_whole(mirror, fetch(mirror, tmp_path))


def test_an_interrupted_write_leaves_nothing(mirror, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(mirror, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(mirror, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IdxError, match=r"No space left on device.*another cache="):
        fetch(mirror, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_a_file(mirror, tmp_path):
    path = write(tmp_path / "file", b"")
    with pytest.raises(IdxError, match="cannot be read or written"):
        fetch(mirror, path)
    assert mirror.asked == []


def test_the_default_cache(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    expected = tmp_path / "home" / ".cache" / "scratchnet" / "mnist"
    assert fetch(mirror, None) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch(mirror, None) == tmp_path / "xdg" / "scratchnet" / "mnist"
    assert_whole(mirror, expected)
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # an empty value counts as not set
    assert fetch(mirror, None) == expected


@pytest.mark.parametrize("fault", [RuntimeError, KeyError, "", "here"])
def test_no_home(mirror, tmp_path, monkeypatch, fault):
    def home():
        raise fault("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if isinstance(fault, str):
        monkeypatch.setenv("HOME", fault)
        monkeypatch.setenv("USERPROFILE", fault)
    else:
        monkeypatch.setattr(Path, "home", home)
    with pytest.raises(IdxError, match=r"no home directory.*set XDG_CACHE_HOME to an "
                       r"absolute path, or pass cache="):  # fmt: skip
        fetch(mirror, None)
    assert mirror.asked == []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert_whole(mirror, fetch(mirror, None))


@pytest.mark.parametrize("where", ["cache", "./cache", "~/.cache", "$HOME/.cache"])
def test_a_cache_home_that_is_not_absolute(mirror, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", where)
    with pytest.raises(IdxError) as caught:
        fetch(mirror, None)
    assert f"XDG_CACHE_HOME is {where!r}, not an absolute path" in str(caught.value)
    assert "pass cache=" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_bar_appears_only_on_a_terminal(mirror, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for kind, bar in ((io.StringIO, False), (Terminal, True)):
        stream = kind()
        monkeypatch.setattr(sys, "stderr", stream)
        fetch(mirror, tmp_path / kind.__name__)
        assert (IMAGES in stream.getvalue()) == bar


# The real data


@pytest.mark.data
def test_real_mnist_has_the_known_checksums(real_mnist):
    # Without a mirror, any file that differs from the table is an error.
    assert download_mnist(real_mnist, mirrors=[]) == real_mnist


@pytest.mark.data
def test_real_mnist(real_mnist):
    train = load_mnist(real_mnist, "train")
    test = load_mnist(real_mnist, "test")
    assert train.images.shape == (60000, 28, 28)
    assert test.x.shape == (10000, 784)
    assert train.label[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.label[:5].tolist() == [7, 2, 1, 0, 4]
    # The published class counts, and the usual mean and deviation for normalising.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.label).tolist() == counts
    assert train.images.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert train.images.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)
    assert (train.images.min(), train.images.max()) == (0, 1)
