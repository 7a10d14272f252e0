"""The words of the page, in both languages."""

import re
import string
from pathlib import Path

import pytest

from scratchnet.report import words
from scratchnet.report.words import WORDS, both, pair, text
from scratchnet.runs.images import SYNTHETIC
from scratchnet.runs.systems import SYSTEMS


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_have_the_same_placeholders(key):
    english, korean = WORDS[key]
    assert english.strip()
    assert korean.strip()
    fields = [
        sorted(name for _, name, _, _ in string.Formatter().parse(one) if name)
        for one in (english, korean)
    ]
    assert fields[0] == fields[1]


def test_every_key_is_used_and_every_used_key_exists():
    folder = Path(words.__file__).parent
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in folder.glob("*.py")
        if path.name != "words.py"
    )
    named = set(re.findall(r'["\'](\w+)["\']', source))
    by_system = {*SYSTEMS, *SYNTHETIC, "mnist", "epochs", "steps"}
    assert set(WORDS) <= named | by_system
    for key in re.findall(r'(?:both|pair)\("(\w+)"', source):
        assert key in WORDS


def test_words_in_words():
    length = pair("epochs", n=3)
    assert text("trained", "en", system="X", n=2, data="digits", length=length) == (
        "A X, trained on 2 digits, 3 epochs."
    )
    assert "3 에폭" in text("trained", "ko", system="X", n=2, data="d", length=length)


def test_values_are_escaped():
    assert "<b>" not in both("folder", name="<b>")
    assert both("folder", name="<b>").count("&lt;b&gt;") == 2
