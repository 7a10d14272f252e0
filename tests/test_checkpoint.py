"""Saving and loading named arrays."""

import os
import zipfile

import numpy as np
import pytest

from scratchnet import checkpoint


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "encoder.0.W": rng.standard_normal((3, 2)).astype(np.float32),
        "step": np.array(7.0),
        "file": np.arange(3),  # a name that np.savez has for itself
    }


def test_what_was_saved_is_loaded_to_the_last_bit(tmp_path, arrays):
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
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
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
