"""Every test of runs works in an empty folder with a small data set."""

import signal

import pytest

from tests.commands import draw_nothing, run_command, stop_after, write_data


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder with a data set; draw no pictures."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    draw_nothing(monkeypatch)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Return a function that runs a command and gives status, output and errors."""
    return lambda command: run_command(capsys, command)


@pytest.fixture
def stopped(run, monkeypatch):
    """Return a function that starts a run and stops it by a signal after some steps."""

    def stopped(command, steps=4):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            status, _, err = run(command)
        assert status == 128 + signal.SIGTERM, err
        return err

    return stopped
