"""demos/gradcheck.py: right gradients are right, wrong ones wrong; verdicts count."""

import numpy as np
import pytest

from demos import _checkers, gradcheck
from demos._awkward import RIGHT
from demos._checkers import Verdict
from demos._gradients import WRONG, Pair
from tests.helpers import rng

STEPS = 2.0 ** -np.arange(3, 42, 2)  # relative to the entry


def names(pairs):
    return [pair.name for pair in pairs]


def cotangent(pair):
    return rng(3).standard_normal(np.shape(pair.f(*pair.inputs)))


def changes(pair, direction, step):
    """Return f before and after a step, with 64 bits of mantissa where f can."""
    f = getattr(pair.f, "in_double", pair.f)
    for dtype in (np.longdouble, float):
        xs = [x.astype(dtype) for x in pair.inputs]
        moved = [x + dtype(step) * d for x, d in zip(xs, direction, strict=True)]
        try:
            with np.errstate(all="ignore"):
                return np.asarray(f(*xs)), np.asarray(f(*moved))
        except TypeError:  # numpy.linalg knows no longdouble
            continue


def along(pair, g, direction, step):
    """Return g times the mean slope of f over a step, and its rounding."""
    before, after = changes(pair, direction, step)
    with np.errstate(all="ignore"):
        rounding = np.finfo(after.dtype).eps * np.abs(before / step)
        return g * (after - before) / step, np.abs(g) * rounding


def slope(pair, g, direction):
    """Return the slope along a direction by central differences, and its error.

    The step is the one at which three steps in a row differ least.
    """
    steps = STEPS[STEPS < 1e-8] if "singular" in pair.name else STEPS
    sides = [[along(pair, g, direction, sign * h) for sign in (1, -1)] for h in steps]
    entries, rounding = np.moveaxis(np.mean(sides, axis=1), 1, 0)
    moved = np.any(entries != 0, axis=0)  # the others have no rounding
    values = np.sum(entries, axis=tuple(range(1, entries.ndim)))
    rounding = np.sum(rounding * moved, axis=tuple(range(1, entries.ndim)))
    errors = np.ptp([values[:-2], values[1:-1], values[2:]], axis=0) + rounding[2:]
    best = np.nanargmin(errors)
    return values[best + 1], 10 * errors[best] + 1e-9 * abs(values[best + 1])


# The rounding of the inputs and of LAPACK, relative to the largest entry.
ROUNDING = {"log det of a nearly singular matrix": 1e-5,
            "stiff: a Rosenbrock valley": 1e-11}  # fmt: skip


def entries(pair, most=40):
    """Yield (input, index), some of each input; first those that are wrong."""
    g = cotangent(pair)
    right = pair.vjp(g, *pair.inputs)
    wrong = pair.wrong(g, *pair.inputs) if pair.wrong else right
    for j, (a, b) in enumerate(zip(right, wrong, strict=True)):
        off = np.ones(np.shape(a)) if np.shape(a) != np.shape(b) else np.abs(a - b)
        for k in np.argsort(-off, axis=None, kind="stable")[:most]:
            yield j, np.unravel_index(k, np.shape(a))


def unit(pair, j, i):
    """Return a direction: entry i of input j, in proportion to its value."""
    direction = [np.zeros_like(x) for x in pair.inputs]
    direction[j][i] = abs(pair.inputs[j][i]) or 1.0
    return direction


def claimed(gradients, direction):
    pairs = zip(gradients, direction, strict=True)
    return sum(np.sum(0 if a is None else a * d) for a, d in pairs)


SMOOTH = [pair for pair in WRONG + RIGHT if "kink" not in pair.allow]
AT_KINKS = [pair for pair in WRONG + RIGHT if "kink" in pair.allow]


@pytest.mark.parametrize("pair", SMOOTH, ids=names(SMOOTH))
def test_a_right_gradient_is_the_slope_in_each_entry(pair):
    g = cotangent(pair)
    gradients = pair.vjp(g, *pair.inputs)
    directions = [unit(pair, j, i) for j, i in entries(pair)]
    largest = max(abs(claimed(gradients, d)) for d in directions)
    for direction in directions:
        numeric, error = slope(pair, g, direction)
        bound = error + ROUNDING.get(pair.name, 0) * largest
        assert abs(claimed(gradients, direction) - numeric) <= bound
        if "sigmoid at 40" not in pair.name:  # flat even with 64 bits of mantissa
            assert error <= 1e-2 * abs(numeric) or error <= 1e-6 * largest


WITH_TWIN = [pair for pair in WRONG if "kink" not in pair.allow]


@pytest.mark.parametrize("pair", WITH_TWIN, ids=names(WITH_TWIN))
def test_a_wrong_gradient_is_not_the_slope(pair):
    g = cotangent(pair)
    gradients = pair.wrong(g, *pair.inputs)
    off = []
    for j, i in entries(pair):
        direction = unit(pair, j, i)
        numeric, error = slope(pair, g, direction)
        off.append(abs(claimed(gradients, direction) - numeric) > error)
    assert any(off)


def beyond(pair, gradients, count=200):
    """Return how often a gradient claims more than both one-sided slopes, or less."""
    random, g = rng(5), cotangent(pair)
    found = 0
    for n in range(count):
        # Half of the directions move each input alike, as those that part a tie do not.
        ds = [random.standard_normal(x.shape) for x in pair.inputs]
        ds = [ds[0]] * len(ds) if n % 2 else ds
        if n == 1:
            ds = [np.ones_like(x) for x in pair.inputs]
        sides = [np.sum(along(pair, g, ds, h)[0]) for h in (1e-7, -1e-7)]
        slack = 1e-5 * (1 + max(map(abs, sides)))
        claim = claimed(gradients, ds)
        found += not min(sides) - slack <= claim <= max(sides) + slack
    return found


@pytest.mark.parametrize("pair", AT_KINKS, ids=names(AT_KINKS))
def test_at_a_kink_a_right_gradient_is_between_the_slopes_entry_by_entry(pair):
    g = cotangent(pair)
    gradients = pair.vjp(g, *pair.inputs)
    jumps = []
    for j, i in entries(pair):
        direction = [np.zeros_like(x) for x in pair.inputs]
        direction[j][i] = 1
        sides = [np.sum(along(pair, g, direction, h)[0]) for h in (1e-7, -1e-7)]
        assert min(sides) - 1e-5 <= gradients[j][i] <= max(sides) + 1e-5
        jumps.append(abs(sides[0] - sides[1]))
    assert max(jumps) > 0.1  # it is a kink


@pytest.mark.parametrize("name", ["max: each", "minimum: both"])
def test_at_a_tie_the_wrong_gradient_claims_too_much_and_the_right_one_does_not(name):
    (pair,) = (pair for pair in WRONG if pair.name.startswith(name))
    g = cotangent(pair)
    assert beyond(pair, pair.vjp(g, *pair.inputs)) == 0
    assert beyond(pair, pair.wrong(g, *pair.inputs)) > 0


def test_the_catalogue_has_as_many_right_as_wrong_ones_of_each_kind():
    assert len(WRONG) >= 40
    assert all(pair.wrong for pair in WRONG)
    assert len(RIGHT) >= 40
    assert len(set(names(WRONG + RIGHT))) == len(WRONG + RIGHT)


def test_where_the_right_gradient_is_zero_it_is_said():
    for pair in SMOOTH:
        gradients = pair.vjp(cotangent(pair), *pair.inputs)
        zero = any(not np.any(a) for a in gradients)
        assert zero == ("vacuous" in pair.allow), pair.name


# --- How verdicts count -------------------------------------------------------------


def accept(pair):
    return Verdict(True)


def reject(pair):
    return Verdict(False, 0, None)


def unable(pair):
    return None


def test_who_accepts_all_misses_all_and_who_rejects_all_raises_all_false_alarms():
    ordinary, difficult = gradcheck.right_ones()
    result = gradcheck.judge(accept)
    assert result.missed == names(WRONG)
    assert result.alarms == ([], [])
    result = gradcheck.judge(reject)
    assert result.missed == []
    assert result.alarms == (names(ordinary), names(difficult))
    assert result.judged == (len(WRONG), len(ordinary), len(difficult))
    assert gradcheck.judge(unable).judged == (0, 0, 0)


def test_a_named_entry_counts_only_if_it_is_wrong():
    pair = next(pair for pair in WRONG if pair.name == "1 of 1,000 entries, 1 %")
    assert gradcheck.names_a_wrong_entry(pair, Verdict(False, 0, (617,)))
    assert not gradcheck.names_a_wrong_entry(pair, Verdict(False, 0, (616,)))
    assert not gradcheck.names_a_wrong_entry(pair, Verdict(False))
    pair = next(pair for pair in WRONG if pair.name.startswith("minimum"))
    g = cotangent(pair)
    both = pair.vjp(g, *pair.inputs), pair.wrong(g, *pair.inputs)
    a, b = (np.flatnonzero(right - wrong) for right, wrong in zip(*both, strict=True))
    assert a.size == 0  # the right gradient gives all to a, the wrong one also to b
    for j in (0, 1):
        assert gradcheck.names_a_wrong_entry(pair, Verdict(False, j, (b[0],)))


def test_scratchnet_and_central_differences_find_an_error_and_name_it():
    pair = Pair("", np.sin, lambda g, x: (g * np.cos(x),), (np.array([1.0, 2.0]),))
    wrong = pair._replace(vjp=lambda g, x: (g * np.cos(x) * [1, 1.1],))
    for check in (_checkers.scratchnet, _checkers.central_differences):
        assert check(pair).accepted
        assert check(wrong) == Verdict(False, 0, (1,))


def test_the_table_goes_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{gradcheck.BEGIN}\nold\n{gradcheck.END}\nbelow\n")
    gradcheck.write(page, "new")
    gradcheck.write(page, "new")
    expected = f"above\n{gradcheck.BEGIN}\n\nnew\n\n{gradcheck.END}\nbelow\n"
    assert page.read_text() == expected


@pytest.mark.frameworks
def test_each_rival_accepts_a_right_gradient_and_rejects_a_wrong_one():
    checkers, missing = _checkers.installed()
    assert not missing
    pair = next(pair for pair in WRONG if pair.name.startswith("mean squared error"))
    for name, check in checkers.items():
        assert check(pair).accepted, name
        assert not check(pair._replace(vjp=pair.wrong)).accepted, name
