"""Compiling C once: the compiler, the folder of results, and all that can go wrong."""

import ctypes
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scratchnet.backend import BackendError, compiler
from tests.backend import compiled

pytestmark = compiled.needs_compiler

TEXT = "int answer(void) { return 42; }\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the folder that results are kept in, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("SCRATCHNET_BACKEND", raising=False)  # for processes
    compiler.compiler.cache_clear()
    yield tmp_path / "cache" / "scratchnet"
    compiler.compiler.cache_clear()


@pytest.fixture
def runs(monkeypatch):
    """Count how often the compiler runs."""
    commands = []
    run = subprocess.run

    def noted(command, **options):
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(compiler.subprocess, "run", noted)
    return commands


def test_a_text_is_compiled_once(home, runs):
    assert compiler.load(TEXT).answer() == 42
    assert compiler.load(TEXT).answer() == 42
    assert len(runs) == 1
    assert compiler.load(TEXT.replace("42", "7")).answer() == 7
    assert len(runs) == 2
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    folders = list(home.iterdir())
    assert len(folders) == 2  # what was temporary is gone
    assert {p.name for p in folders[0].iterdir()} == {"code.c", "code.so", "sum"}


def test_the_name_depends_on_compiler_flags_and_processor(home, monkeypatch):
    compiler.load(TEXT)
    for k, (name, value) in enumerate({
        "FLAGS": (*compiler.FLAGS, "-g"), "_processor": lambda: "another",
        "_identity": lambda program: "a newer compiler",
        "_headers": lambda: ["another header"],
    }.items()):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(compiler, name, value)
            assert compiler.load(TEXT).answer() == 42
        assert len(list(home.iterdir())) == k + 2


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "no sum", "no code"])
def test_a_damaged_file_is_made_again(home, runs, damage):
    compiler.load(TEXT)
    (folder,) = home.iterdir()
    code = folder / "code.so"
    content = code.read_bytes()
    code.unlink()  # the process has it open
    if damage == "truncated":
        code.write_bytes(content[: len(content) // 2])
    elif damage == "other bytes":
        code.write_bytes(b"x" * len(content))
    elif damage == "no sum":
        code.write_bytes(content)
        (folder / "sum").unlink()
    program = f"from scratchnet.backend import compiler; compiler.load({TEXT!r})"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
    sum_of = hashlib.sha256(code.read_bytes()).hexdigest()
    assert (folder / "sum").read_text() == sum_of
    assert len(list(home.iterdir())) == 1


def test_a_file_that_does_not_load_is_made_again(home, runs, monkeypatch):
    """As one of another processor may be: it is whole, but cannot be loaded."""
    compiler.load(TEXT)
    load, fails = ctypes.CDLL, [True]

    def refuse(path):
        if fails.pop() if fails else False:
            raise OSError("wrong architecture")
        return load(path)

    monkeypatch.setattr(compiler.ctypes, "CDLL", refuse)
    assert compiler.load(TEXT).answer() == 42
    assert len(runs) == 2


def test_four_processes_at_once(home):
    program = (
        "from scratchnet.backend import compiler\n"
        f"assert compiler.load({TEXT!r}).answer() == 42"
    )
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program])
        for _ in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    assert len(list(home.iterdir())) == 1


# --- No folder ----------------------------------------------------------------------


def as_a_file(home):
    home.parent.mkdir(parents=True)
    home.write_text("")


def as_a_link(home):
    home.parent.mkdir(parents=True)
    (home.parent / "elsewhere").mkdir()
    home.symlink_to("elsewhere")


def as_anybodys(home):
    home.mkdir(parents=True)
    home.chmod(0o777)


def without_a_home(home):
    home.parent.write_text("")


@pytest.mark.parametrize(
    "made",
    [as_a_file, as_a_link, as_anybodys, without_a_home],
    ids=lambda f: f.__name__,
)
def test_a_folder_that_cannot_be_used(home, made):
    """One clear line, and the text is compiled for this process alone."""
    made(home)
    with pytest.warns(RuntimeWarning, match="backend 'c': no cache for compiled code"):
        assert compiler.load(TEXT).answer() == 42


def test_a_folder_of_somebody_else(home, monkeypatch):
    if not hasattr(os, "getuid"):
        pytest.skip("no users")
    compiler.load(TEXT)
    user = os.getuid()
    monkeypatch.setattr(compiler.os, "getuid", lambda: user + 1)
    with pytest.warns(RuntimeWarning, match="others can write to it"):
        assert compiler.load(TEXT).answer() == 42


def test_a_full_disk(home, monkeypatch):
    def full(*a, **k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiler.tempfile, "mkdtemp", full)
    monkeypatch.setattr(compiler.tempfile, "TemporaryDirectory", full)
    with (
        pytest.warns(RuntimeWarning, match="no cache .*No space left on device"),
        pytest.raises(BackendError, match=r"no folder to compile in .*No space left"),
    ):
        compiler.load(TEXT)


def test_a_relative_cache_is_not_used(home, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setattr(compiler.Path, "home", lambda: tmp_path)
    compiler.load(TEXT)
    assert (tmp_path / ".cache" / "scratchnet").is_dir()


# --- No compiler --------------------------------------------------------------------


def program(tmp_path, text):
    path = tmp_path / "cc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_no_compiler(home, monkeypatch):
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"no C compiler .*; install one"):
        compiler.load(TEXT)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: "there")
    compiler.compiler.cache_clear()
    assert compiler.compiler() == (sys.executable, "-m", "ziglang", "cc")


def test_the_users_compiler(home, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "cc -DMORE=1")
    assert compiler.load("int more(void) { return MORE; }").more() == 1
    compiler.compiler.cache_clear()
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(BackendError, match=r"CC, '.*none', is not there"):
        compiler.load(TEXT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'x.c:1: error: bad flag' >&2; exit 1", "status 1: x.c:1: error: bad"),
        ("exit 0", "failed with status 0"),  # it made nothing
    ],
)
def test_a_broken_compiler(home, monkeypatch, tmp_path, text, said):
    monkeypatch.setenv("CC", program(tmp_path, text))
    with pytest.raises(BackendError, match=said) as caught:
        compiler.load(TEXT)
    assert "\n" not in str(caught.value)
    assert list(home.iterdir()) == []


def test_the_command_says_it_in_one_line(home, monkeypatch, tmp_path):
    broken = program(tmp_path, "exit 3")
    command = [sys.executable, "-m", "scratchnet", "train", "vae", "--backend", "c"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True,
        env={**os.environ, "CC": broken}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    assert f"backend 'c': {broken} failed with status 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
