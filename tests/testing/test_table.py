"""The check of the whole table: python -m tests.gradcheck."""

import numpy as np

from scratchnet.table import TABLE
from tests import gradcheck


def table_of(monkeypatch, **rows):
    """Let the command see only these rows: a function's name, and its rule or None."""
    functions = {getattr(np, name): row for name, row in rows.items()}
    table = {f: TABLE[f] for f in functions}
    monkeypatch.setattr(gradcheck, "TABLE", table)
    for f, derivative in functions.items():
        if derivative is not None:
            monkeypatch.setattr(table[f], "rules", (derivative,))


def test_gradcheck_prints_a_verdict_for_each_row(monkeypatch, capsys):
    table_of(monkeypatch, tanh=None, argmax=None, sum=None)
    assert gradcheck.main([]) == 0
    *rows, result = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in rows] == [
        ["np.argmax", "constant"],
        ["np.sum", "pass"],
        ["np.tanh", "pass"],
    ]
    assert result == "3 rows: 1 constant, 2 pass"


def test_gradcheck_finds_a_wrong_rule_and_names_it(monkeypatch, capsys):
    table_of(monkeypatch, tanh=lambda g, y, x: g * (1 - y), exp=None)
    assert gradcheck.main([]) == 1
    out = capsys.readouterr().out
    assert "np.tanh                      wrong" in out
    assert "rule: np.tanh, argument 0" in out
    assert out.splitlines()[-1] == "2 rows: 1 pass, 1 wrong"


def test_gradcheck_says_which_rows_it_has_no_call_for(monkeypatch, capsys):
    table_of(monkeypatch, tanh=None)
    monkeypatch.setattr(gradcheck, "CASES", {})
    assert gradcheck.main([]) == 1
    assert "not checked" in capsys.readouterr().out
