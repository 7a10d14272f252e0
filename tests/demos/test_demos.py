"""The demos' own arithmetic, against what can be worked by hand; they train nothing."""

import math

import numpy as np
import pytest

from demos import chain_rule, curse
from demos._demo import Demo
from scratchnet import Tensor, grad

# --- chain_rule ---------------------------------------------------------------------


def by_hand():
    """dL/dw and dL/db of L = (tanh(a) a - y)², a = w x + b, at the start."""
    a = chain_rule.START["w"] * chain_rule.X + chain_rule.START["b"]
    h = math.tanh(a)
    from_s = 2 * (h * a - chain_rule.Y) * h  # the two shares that a receives
    from_h = 2 * (h * a - chain_rule.Y) * a * (1 - h * h)
    return from_s, from_h


@pytest.fixture
def graph():
    return chain_rule.recorded()


# How often the shares of a from s and from h count, in dL/db and in dL/dw.
ONCE = ((1, 1), (1, 1))
LATE = ((1, 0), (1, 0))  # the share from h goes no further
AGAIN = ((2, 1), (3, 1))  # a sends its sum twice, then p sends both sums


@pytest.mark.parametrize(
    ("choose", "late", "times"),
    [
        (chain_rule.newest, "total", ONCE),
        (chain_rule.newest, "lost", ONCE),
        (chain_rule.newest, "alone", ONCE),
        (chain_rule.last_found, "alone", ONCE),
        (chain_rule.last_found, "lost", LATE),
        (chain_rule.last_found, "total", AGAIN),
    ],
)
def test_a_walk_sends_what_its_order_allows(graph, choose, late, times):
    _, gradients = chain_rule.walk(graph["L"], choose, late)
    db, dp = np.dot(times, by_hand())
    assert gradients[graph["b"]] == pytest.approx(db, rel=1e-13)
    assert gradients[graph["w"]] == pytest.approx(dp * chain_rule.X, rel=1e-13)
    assert gradients[graph["a"]] == pytest.approx(sum(by_hand()), rel=1e-13)


def test_finite_differences_are_the_derivative():
    slopes = chain_rule.finite_differences()
    assert slopes["b"] == pytest.approx(sum(by_hand()), rel=1e-8)
    assert slopes["w"] == pytest.approx(sum(by_hand()) * chain_rule.X, rel=1e-8)


def test_the_formulas_drawn_are_those_of_the_engine(graph):
    """Each formula, evaluated at its inputs, gives the value of the engine."""
    values = {name: t.item() for name, t in graph.items()} | {
        "x": chain_rule.X,
        "y": chain_rule.Y,
    }
    names = values | {"tanh": np.tanh}

    def evaluate(formula):
        for drawn, code in {"·": "*", "−": "-", "²": "**2", "2e": "2*e"}.items():
            formula = formula.replace(drawn, code)
        return eval(formula.replace("tanh a", "tanh(a)"), {}, names)

    for name, formula in chain_rule.FORMULA.items():
        assert evaluate(formula) == pytest.approx(values[name], rel=1e-13)
    turns, _ = chain_rule.walk(graph["L"], chain_rule.newest)
    sent = {(t.visited.name, s.to.name): s.local for t in turns for s in t.sent}
    assert set(sent) == set(chain_rule.DERIVATIVE)
    for edge, formula in chain_rule.DERIVATIVE.items():
        assert evaluate(formula) == pytest.approx(sent[edge], rel=1e-13)


def test_sending_each_share_separately_is_right_and_slow():
    for n in (1, 2, 5):
        end = chain_rule.gates(n)
        once, gradients = chain_rule.walk(end, chain_rule.newest)
        often, same = chain_rule.walk(end, chain_rule.last_found, "alone")
        leaf = min(gradients, key=lambda t: t._node is not None)
        assert len(once) == 2 * n
        assert len(often) == 2 * (2**n - 1)

        def chain(a, n=n):
            for _ in range(n):
                a = np.tanh(a) * a
            return a

        exact = grad(chain)(np.array(1.5))
        assert gradients[leaf] == pytest.approx(exact, rel=1e-13)
        assert same[leaf] == pytest.approx(exact, rel=1e-12)


def test_the_trace_shows_the_sum_at_a(graph):
    turns, _ = chain_rule.walk(graph["L"], chain_rule.newest)
    lines = chain_rule.trace(turns)
    assert [line.split()[2] for line in lines if "visit" in line] == list("Leshap")
    (at_a,) = [line for line in lines if "dL/da = -0.7107 +" in line]
    assert at_a.endswith("= -1.3154")


def test_tensors_with_equal_values_stay_apart():
    """Tensors compare by value; the walk must not confuse two of them."""
    a = Tensor(np.array(1.0), requires_grad=True)
    b = Tensor(np.array(1.0), requires_grad=True)
    _, gradients = chain_rule.walk(a * b * b, chain_rule.newest)
    assert (gradients[a], gradients[b]) == (1.0, 2.0)


# --- curse --------------------------------------------------------------------------


def test_occupied_cells_are_counted():
    x = np.array([[0.05, 0.05], [0.06, 0.09], [0.15, 0.05], [0.05, 0.99]])
    assert curse.occupied_cells(x) == 3
    assert curse.expected_share(10, 1) == pytest.approx(1 - 0.9**10, rel=1e-13)
    measured = curse.occupied_cells(np.random.default_rng(0).random((1000, 3))) / 1000
    assert measured == pytest.approx(curse.expected_share(1000, 3), rel=0.05)


def test_the_distances_of_random_points_on_a_line():
    x = curse.cube(curse.POINTS + 2000, 1, np.random.default_rng(0))
    near, far, contrast = curse.measured_distances(x, 2000)
    # Of n uniform points the nearest is about 1/2n away; the farthest is max(q, 1 - q).
    assert near == pytest.approx(1 / (2 * curse.POINTS), rel=0.1)
    assert far == pytest.approx(0.75, abs=0.01)
    assert contrast > 100


def test_the_plane_is_a_square_in_many_dimensions():
    x = curse.plane(2000, 30, np.random.default_rng(0))
    moved = x - x.mean(axis=0)
    spread = np.linalg.svd(moved, compute_uv=False) / math.sqrt(len(x))
    np.testing.assert_allclose(spread[:2], math.sqrt(1 / 12), rtol=0.05)
    assert spread[2] < 1e-12
    np.testing.assert_allclose(x.mean(axis=0), 0.5, atol=0.02)


@pytest.mark.parametrize("d", [1, 3, 50])
def test_the_best_error_of_the_tasks_is_fixed(d):
    rng = np.random.default_rng(d)
    x, label, radius = curse.ball(20_000, d, rng)
    np.testing.assert_allclose(radius[:, 0], np.sqrt(np.sum(x * x, axis=1)))
    assert label.mean() == pytest.approx(0.5, abs=0.02)
    wrong = (radius[:, 0] > np.quantile(radius, 1 - label.mean())) != label
    assert wrong.mean() == pytest.approx(curse.BEST_ERROR, abs=0.01)
    x, label, total = curse.two_normals(20_000, d, rng)
    np.testing.assert_allclose(total[:, 0], x.sum(axis=1))
    wrong = (total[:, 0] > 0) != label
    assert wrong.mean() == pytest.approx(curse.BEST_ERROR, abs=0.006)


def test_the_error_of_neighbours_is_that_of_the_best_vote(monkeypatch):
    monkeypatch.setattr(curse, "POINTS", 3)
    monkeypatch.setattr(curse, "VOTES", (1, 3))
    x = np.array([[0.0], [1], [10], [0.2], [9]])
    for last, expected in (((0, 1), 0), ((1, 1), 0), ((0, 0), 0.5), ((1, 0), 0.5)):
        label = np.array([0, 1, 1, *last])
        assert curse.neighbor_error(x, label) == expected


def test_noise_is_appended_and_drawn_around_the_digit():
    digit = np.full((1, curse.SIDE**2), 7.0, np.float32)
    x = curse.with_noise(digit, 68, np.random.default_rng(0))
    assert x.shape == (1, 324)
    assert x.dtype == np.float32
    assert 0 <= x[0, 256:].min() <= x[0, 256:].max() < 1
    picture = curse.as_picture(x[0])
    assert picture.shape == (18, 18)
    assert np.all(picture[1:-1, 1:-1] == 7)
    np.testing.assert_array_equal(picture[0], x[0, 256 : 256 + 18])
    np.testing.assert_array_equal(picture[-1], x[0, -18:])
    assert curse.as_picture(np.append(x[0], 5)).shape == (18, 18)


def test_the_demo_of_the_chain_rule_holds(tmp_path):
    demo = Demo("chain_rule", quick=False, out=tmp_path)
    chain_rule.run(demo)
    assert demo.failed == []
    assert {path.name for path in tmp_path.iterdir()} == {
        "chain_rule.png",
        "chain_rule-order.png",
    }
