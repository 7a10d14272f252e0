"""Each kind of mistake gets its own hint, and other mistakes get none."""

import numpy as np
import pytest

from tests.testing import gradient_pairs as pairs
from tests.testing.examples import needle, report_of

WRONG = [(kind, i) for kind, cases in pairs.MISTAKES.items() for i in range(len(cases))]


@pytest.mark.parametrize(("kind", "i"), WRONG)
def test_a_mistake_gets_its_own_hint(kind, i):
    f, right, wrong, inputs, words = pairs.MISTAKES[kind][i]
    assert report_of((f, right), inputs).verdict == "pass"
    report = report_of((f, wrong), inputs)
    assert (report.verdict, report.mistake) == ("wrong", kind), report
    assert words in str(report)


@pytest.mark.parametrize("name", pairs.NO_KIND)
def test_other_mistakes_get_no_hint(name):
    f, wrong, inputs = pairs.NO_KIND[name]
    report = report_of((f, wrong), inputs)
    assert (report.verdict, report.mistake) == ("wrong", None), report


def test_a_pattern_gives_the_number_of_entries_that_show_it():
    """Half of 10,000 entries are off by 2, half by 0.5: no factor holds for all."""
    x, f, gradient = needle("abs", 0)
    large = np.abs(gradient(x)) > np.median(np.abs(gradient(x)))
    report = report_of((f, lambda x: gradient(x) * np.where(large, 2, 0.5)), x)
    assert "at least 64 differ" in str(report)
    assert "analytic / numeric = 2 in each of the 64 that were located" in str(report)
    assert report.mistake is None
    report = report_of((f, lambda x: 2 * gradient(x)), x)
    assert report.mistake == "factor"
