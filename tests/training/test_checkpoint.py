"""Saving and loading named arrays."""

import os
import random
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchnet.training import checkpoint
from tests.helpers import mutate


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "encoder.0.W": rng.standard_normal((3, 2)).astype(np.float32),
        "step": np.array(7.0),
        "file": np.arange(3),  # a name that np.savez reserves
    }


def test_saved_arrays_are_loaded_to_the_last_bit(tmp_path, arrays):
    checkpoint.save(tmp_path / "w.npz", arrays, sizes=[3, 2], seed=0)
    loaded, about = checkpoint.load(tmp_path / "w.npz")
    assert list(loaded) == list(arrays)
    for name, a in arrays.items():
        assert loaded[name].dtype == a.dtype
        np.testing.assert_array_equal(loaded[name], a)
    assert about == {"sizes": [3, 2], "seed": 0}


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing(tmp_path, arrays):
    path = tmp_path / "w.npz"
    checkpoint.save(path, arrays)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(path, arrays, about=object())
    with pytest.raises(ValueError, match=r"about\.json"):
        checkpoint.save(path, {"about.json": np.zeros(1)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.npz"]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path, arrays):
    checkpoint.save(tmp_path / "w.npz", arrays)
    (tmp_path / "plain").touch()
    modes = {os.stat(tmp_path / name).st_mode for name in ("w.npz", "plain")}
    assert len(modes) == 1


def test_no_folder_is_an_error_that_names_the_file(tmp_path, arrays):
    with pytest.raises(FileNotFoundError, match="missing"):
        checkpoint.save(tmp_path / "missing" / "w.npz", arrays)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"w\.npz"):
        checkpoint.load(tmp_path / "w.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.npz: not a file of weights"):
        checkpoint.load(path)


def test_other_archives_and_pickles_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.zeros(1))
    with pytest.raises(ValueError, match="not a file of weights"):
        checkpoint.load(path)
    np.savez(path, **{"a": np.array([object()]), "about.json": np.array("{}")})
    with pytest.raises(ValueError, match="not a file of weights"):
        checkpoint.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json.npy", b"no array")
    with pytest.raises(ValueError, match="not a file of weights"):
        checkpoint.load(path)


def test_a_truncated_file_is_refused(tmp_path, arrays):
    path = tmp_path / "w.npz"
    checkpoint.save(path, arrays)
    whole = path.read_bytes()
    for n in range(0, len(whole), 50):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match="not a file of weights"):
            checkpoint.load(path)


def header(shape, dtype="<f8"):
    """Write the header of an .npy file that claims that shape."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a.npy": header((10**12,))}, "a.npy is shorter or longer than its header"),
        ({"a.npy": header((10**30, 10**30))}, "shorter or longer than"),
        ({"a.npy": header((-3,)) + bytes(8)}, "shorter or longer than"),
        ({"a.npy": header((1,), "|O") + bytes(8)}, "shorter or longer than"),
        ({"a.npy": b"\x93NUMPY\x02\x00" + bytes(50)}, r"has version \(2, 0\)"),
        ({"a.npy": b"\x93NUMPY\x01\x00\xff\xff"}, "EOF|header"),
        ({"../../a.npy": header((1,)) + bytes(8)}, "a.npy leads out of"),
        ({"/a.npy": header((1,)) + bytes(8)}, "/a.npy leads out of"),
    ],
)
def test_false_headers_are_refused(tmp_path, entries, message):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"w\.npz: not a file.*({message})"):
            checkpoint.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_zip_bomb_is_not_unpacked(tmp_path, arrays):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header((10**8 // 8,)) + bytes(10**8))
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"a\.npy is compressed"):
        checkpoint.load(path)
    checkpoint.save(path, arrays)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Dup"):
        archive.writestr("step.npy", header(()) + bytes(8))
    with pytest.raises(ValueError, match="two entries have the same name"):
        checkpoint.load(path)


@pytest.mark.parametrize("facts", ["[1]", "{", "[" * 100_000, "1"])
def test_facts_that_are_not_json_objects(tmp_path, facts):
    path = tmp_path / "w.npz"
    np.savez(path, **{"about.json": np.array(facts)})
    with pytest.raises(ValueError, match="not a file of weights"):
        checkpoint.load(path)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(ValueError, match="not a file of weights"):
        checkpoint.load(tmp_path)


def fuzz(tmp_path, arrays, seed, n):
    """Load n mutated files; return how many were refused."""
    path = tmp_path / "w.npz"
    checkpoint.save(path, arrays, sizes=[3, 2], seed=0)
    whole = path.read_bytes()
    source = random.Random(seed)
    refused = []
    slowest = 0.0
    for _ in range(n):
        path.write_bytes(mutate(whole, source))
        began = time.perf_counter()
        try:
            loaded, about = checkpoint.load(path)
        except ValueError as error:
            refused.append(str(error))
            continue
        finally:
            slowest = max(slowest, time.perf_counter() - began)
        # If a change (of a date, for instance) does no harm, the original is read.
        assert about == {"sizes": [3, 2], "seed": 0}
        assert list(loaded) == list(arrays)
        for name, a in arrays.items():
            np.testing.assert_array_equal(loaded[name], a)
    assert all("w.npz: not a file of weights" in text for text in refused)
    print(f"{len(refused)} of {n} refused, the others read as they were; the slowest "
          f"took {slowest:.3f} s")  # fmt: skip
    return len(refused)


@given(st.integers(0, 2**32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files_are_refused_or_read_unchanged(tmp_path, arrays, seed):
    fuzz(tmp_path, arrays, seed, 5)


@pytest.mark.slow
def test_100_000_mutated_files(tmp_path, arrays):
    assert fuzz(tmp_path, arrays, 0, 100_000) > 80_000
