"""The updates: SGD, Adam, AdamW."""

import copy
import math
import pickle

import numpy as np
import pytest

from scratchnet import checks
from scratchnet.kernels import activations, buffers, schedules, updates
from tests.helpers import assert_no_allocation, assert_same

# Three steps of Adam worked by hand: lr 0.1, β1 0.9, β2 0.999, p = 1 and the gradients
# 0.5, -0.25, 1. For instance the second:
#   m = 0.9 · 0.05 + 0.1 · (-0.25) = 0.02              m̂ = 0.02 / 0.19 = 0.10526
#   v = 0.999 · 0.00025 + 0.001 · 0.0625 = 0.00031225  v̂ = 0.00031225 / 0.001999
GRADIENTS = [0.5, -0.25, 1.0]

M = [0.05, 0.02, 0.118]

V = [0.00025, 0.00031225, 0.00131193775]

P = {
    1e-8: [0.9000000019999999600, 0.8733662987078461626, 0.8075551396770896156],
    0.1: [0.9166666666666666667, 0.8954110602303418836, 0.8382407659468464026],
}


@pytest.mark.parametrize("eps", P)
def test_adam_is_three_steps_worked_by_hand(eps):
    p = np.ones((2, 3))
    adam = updates.AdamUpdate([p], lr=0.1, eps=eps)
    for i, g in enumerate(GRADIENTS):
        adam.apply([p], [np.full((2, 3), g)])
        state = adam.state_dict()
        assert state["t"] == i + 1
        # The stored moments lack the factors 1 − β1 and 1 − β2.
        np.testing.assert_allclose(0.1 * state["m.0"], M[i], rtol=1e-14)
        np.testing.assert_allclose(0.001 * state["v.0"], V[i], rtol=1e-13)
        np.testing.assert_allclose(p, P[eps][i], rtol=1e-14)


def test_weight_decay_is_three_steps_worked_by_hand():
    # The steps above give the updates u = 0.083333, 0.021255, 0.057170.
    # With lr·λ = 0.1 · 0.5, each p is 0.95 of the last, less u; m and v stay the same.
    p = np.ones((2, 3))
    adam = updates.AdamWUpdate([p], lr=0.1, eps=0.1, weight_decay=0.5)
    for i, expected in enumerate(
        [0.8666666666666667, 0.8020777268970086, 0.7048035463]
    ):
        adam.apply([p], [np.full((2, 3), GRADIENTS[i])])
        np.testing.assert_allclose(p, expected, rtol=1e-10)
        state = adam.state_dict()
        np.testing.assert_allclose(0.1 * state["m.0"], M[i], rtol=1e-14)
        np.testing.assert_allclose(0.001 * state["v.0"], V[i], rtol=1e-13)


def test_adam_takes_first_steps_of_lr_whatever_the_gradients_scale():
    for scale in (1e-3, 1.0, 1e3):
        p = np.zeros(2)
        updates.AdamUpdate([p], lr=0.1).apply([p], [np.array([scale, -scale])])
        np.testing.assert_allclose(p, [-0.1, 0.1], rtol=2e-5)


def test_sgd_is_two_steps_worked_by_hand():
    p = np.array([1.0, 2.0])
    sgd = updates.SGDUpdate([p], lr=0.1, momentum=0.5)
    sgd.apply([p], [np.array([1.0, -2.0])])  # velocity = 1, -2
    np.testing.assert_allclose(p, [0.9, 2.2], rtol=1e-15)
    sgd.apply([p], [np.array([2.0, 0.0])])  # velocity = 2.5, -1
    np.testing.assert_allclose(p, [0.65, 2.3], rtol=1e-15)
    p = np.array([1.0])
    updates.SGDUpdate([p], lr=0.1).apply([p], [np.array([3.0])])
    np.testing.assert_allclose(p, [0.7], rtol=1e-15)


def makers():
    return [
        lambda arrays: updates.AdamUpdate(arrays, lr=0.01),
        lambda arrays: updates.SGDUpdate(arrays, lr=0.01, momentum=0.9),
        lambda arrays: updates.SGDUpdate(arrays, lr=0.01),
        lambda arrays: updates.AdamWUpdate(
            arrays, lr=lambda t: 0.02 / (1 + t), weight_decay=0.1
        ),
    ]


@pytest.mark.parametrize("make", makers())
def test_updates_work_in_blocks_on_any_shape_and_layout(make, monkeypatch):
    rng = np.random.default_rng(0)
    shapes = [(), (1,), (7,), (3, 5), (2, 3, 4), (10, 1), (4, 0)]
    starts = [rng.standard_normal(shape) for shape in shapes]
    starts.append(rng.standard_normal((6, 4)).T)  # not contiguous
    gradients = [[rng.standard_normal(a.shape) for a in starts] for _ in range(4)]

    def run(block):
        monkeypatch.setattr(buffers, "BLOCK", block)
        arrays = [a.copy(order="K") for a in starts]
        update = make(arrays)
        for g in gradients:
            kept = copy.deepcopy(g)
            update.apply(arrays, g)
            for a, b in zip(g, kept, strict=True):
                np.testing.assert_array_equal(a, b)  # gradients are not changed
        return arrays

    whole = run(1 << 16)
    for a, b in zip(whole, starts, strict=True):
        assert a.size == 0 or (a != b).all()
    for block in (1, 4, 6):
        for a, b in zip(run(block), whole, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", makers())
def test_updates_keep_dtypes_apart_and_skip_missing_gradients(make):
    rng = np.random.default_rng(0)
    single, double = np.ones(5, np.float32), np.ones(5)
    still = np.ones(5)
    update = make([single, still, double])
    for _ in range(3):
        g = rng.standard_normal(5)
        update.apply([single, still, double], [g.astype(np.float32), None, g])
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-6)
    assert (double != 1).all()
    assert (still == 1).all()
    with pytest.raises(ValueError, match="3 arrays and 0 gradients given, 3 of each"):
        update.apply([single, still, double], [])
    state = update.state_dict()
    for name in set(state) & {"m.0", "v.0", "velocity.0"}:
        assert state[name].dtype == np.float32


@pytest.mark.parametrize("make", makers())
def test_a_resumed_update_is_exact_to_the_last_bit(make):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((10, 4))
    p = np.ones(4)
    update = make([p])
    for g in gradients[:5]:
        update.apply([p], [g])
    rate = update.lr
    state, q = update.state_dict(), p.copy()
    for g in gradients[5:]:
        update.apply([p], [g])
    other = make([q])
    other.load_state_dict(state)
    assert other.lr == rate
    for g in gradients[5:]:
        other.apply([q], [g])
    np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("make", makers())
def test_a_step_allocates_nothing(make):
    p, g = np.ones((400, 400), np.float32), np.ones((400, 400), np.float32)
    update, ema = make([p]), updates.AverageUpdate([p], 0.9)

    def step():
        update.apply([p], [g])
        ema.update()

    assert_no_allocation(step, limit=50_000)


@pytest.mark.parametrize("make", makers())
def test_copied_updates_are_independent(make):
    p, q = np.ones(4), np.ones(4)
    update = make([p])
    update.apply([p], [np.ones(4)])
    twin = copy.deepcopy(update)
    before = update.state_dict()
    twin.apply([q], [np.ones(4)])
    for name, value in update.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_learning_rate_may_change_between_steps():
    p = np.zeros(1)
    sgd = updates.SGDUpdate([p], lr=1.0)
    sgd.apply([p], [np.ones(1)])
    sgd.lr = 0.25
    sgd.apply([p], [np.ones(1)])
    assert p == -1.25
    adam = updates.AdamUpdate([p], lr=1.0)
    assert adam.lr == 1.0
    with pytest.raises(ValueError, match="Adam: lr is 0; a positive number"):
        adam.lr = 0
    assert adam.lr == 1.0
    for bad in (lambda t: None, lambda t: -1.0, "0.1", None):
        with pytest.raises(
            (TypeError, ValueError), match=r"lr is .*; a positive number"
        ):
            adam.lr = bad
        assert adam.lr == adam.state_dict()["lr"] == 1.0


def test_a_rate_that_is_set_later_gets_the_number_of_steps():
    p = np.zeros(1)
    sgd = updates.SGDUpdate([p], lr=1.0)
    sgd.apply([p], [np.ones(1)])
    sgd.lr = [None, 0.5, 0.25].__getitem__
    for value in (-1.5, -1.75):
        sgd.apply([p], [np.ones(1)])
        assert p == value
    sgd.lr = 1.0
    assert sgd.state_dict()["t"] == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: updates.SGDUpdate([], lr=-1), "SGD: lr is -1; a positive"),
        (lambda: updates.SGDUpdate([], lr=float("nan")), "lr is nan"),
        (lambda: updates.SGDUpdate([], lr=float("inf")), "lr is inf"),
        (lambda: updates.SGDUpdate([], lr=1, momentum=1), r"momentum is 1; .*\[0, 1\)"),
        (lambda: updates.SGDUpdate([], lr=1, momentum=-0.1), "momentum is -0.1"),
        (lambda: updates.AdamUpdate([], betas=(1.0, 0.9)), r"betas\[0\] is 1.0"),
        (lambda: updates.AdamUpdate([], betas=(0.9, -1)), r"betas\[1\] is -1"),
        (lambda: updates.AdamUpdate([], eps=0), "eps is 0"),
        (lambda: activations.activation("gelu"), "'gelu'; one of 'linear', 'relu'"),
        (lambda: activations.activation("leaky_relu", slope=1.0), "slope is 1.0"),
    ],
)
def test_numbers_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_float16_is_too_narrow_for_squares():
    for make in (
        lambda a: updates.SGDUpdate(a, 0.1),
        updates.AdamUpdate,
        lambda a: updates.AverageUpdate(a, 0.5),
    ):
        with pytest.raises(
            TypeError, match="arrays of float32, float16; float32 or wi"
        ):
            make([np.ones(2, np.float32), np.ones(2, np.float16)])


def test_without_momentum_there_is_no_velocity_to_keep():
    a = [np.ones(2)]
    assert list(updates.SGDUpdate(a, 0.1).state_dict()) == ["lr", "t"]
    assert list(updates.SGDUpdate(a, 0.1, 0.5).state_dict()) == [
        "lr",
        "t",
        "velocity.0",
    ]


def test_checks_name_what_is_wrong():
    check = checks.rows
    x = np.zeros((3, 4), np.float32)
    check("M", x, 4, np.float32)
    with pytest.raises(ValueError, match=r"M: x has 4 columns, 5 expected \(shape"):
        check("M", x, 5, np.float32)
    with pytest.raises(ValueError, match=r"M: x has shape \(4,\); \(n, 4\) expected"):
        check("M", x[0], 4, np.float32)
    with pytest.raises(ValueError, match=r"M: x has no rows \(shape \(0, 4\)\)"):
        check("M", x[:0], 4, np.float32)
    with pytest.raises(TypeError, match="M: x is a list, an array expected"):
        check("M", [[0.0] * 4], 4, np.float32)
    with pytest.raises(TypeError, match=r"x is float32, the model float64; pass x.ast"):
        check("M", x, 4, np.float64)
    with pytest.raises(TypeError, match=r"x is uint8.*x.astype\(np.float32\) / 255"):
        check("M", x.astype(np.uint8), 4, np.float32)

    for value in (2.0, "2", True, None):
        with pytest.raises(TypeError, match=r"M: k is .*an int expected"):
            checks.count("M", "k", value)
    with pytest.raises(ValueError, match="M: k is 0; at least 1"):
        checks.count("M", "k", 0)
    checks.count("M", "k", 1)
    checks.count("M", "k", np.int64(3))
    for sizes in (5, None, "ab", (5,), ()):
        with pytest.raises((TypeError, ValueError), match="M: sizes is"):
            checks.sizes("M", sizes)
    with pytest.raises(ValueError, match=r"M: sizes\[1\] is 0"):
        checks.sizes("M", (5, 0))
    for rng in (0, None, "seed"):
        with pytest.raises(
            TypeError, match=r"M: rng is .*np.random.Generator expected"
        ):
            checks.rng("M", rng)
    for dtype in (np.float16, np.int64, complex):
        with pytest.raises(TypeError, match=r"M: dtype is .*float32 or float64"):
            checks.dtype("M", dtype)

    good = np.array([[0.0, 1.0], [0.5, 0.25]])
    checks.unit_interval("M", good, "N")
    for bad in (-1e-6, 1.0001, np.nan):
        good[1, 0] = bad
        with pytest.raises(ValueError, match=rf"M: x\[1, 0\] is {bad}"):
            checks.unit_interval("M", good, "N")


def lock(a):
    a.flags.writeable = False
    return a


BIG_ENDIAN = [np.dtype(np.float32).newbyteorder(), np.dtype(np.float64).newbyteorder()]


@pytest.mark.parametrize("make", makers())
@pytest.mark.parametrize("dtype", BIG_ENDIAN, ids=str)
def test_arrays_in_the_other_byte_order_take_the_same_steps(make, dtype):
    gradients = np.random.default_rng(0).standard_normal((4, 5))
    native = dtype.newbyteorder()
    one, other, third = np.ones(5, native), np.ones(5, dtype), np.ones(5, native)
    update = make([one, other, third])
    ema = updates.AverageUpdate([one, other], 0.5)
    for g in gradients:
        update.apply(
            [one, other, third], [g.astype(a.dtype) for a in (one, other, one)]
        )
        ema.update()
    np.testing.assert_array_equal(one, other)
    with ema.average():
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", makers())
def test_a_step_is_all_or_nothing_by_hand(make):
    arrays = [np.ones(3), np.ones((2, 2)), np.array(1.0)]
    update = make(arrays)
    gradients = [np.ones(a.shape) for a in arrays]
    update.apply(arrays, gradients)
    before = [a.copy() for a in arrays], update.state_dict()

    def refused(message, arrays=arrays, gradients=gradients):
        with pytest.raises((TypeError, ValueError), match=message):
            update.apply(arrays, gradients)
        now = [*arrays, *update.state_dict().values()]
        for a, b in zip(now, [*before[0], *before[1].values()], strict=True):
            np.testing.assert_array_equal(a, b)

    lock(arrays[1])
    refused(r": arrays\[1\] is read-only; use a copy, or set its flags.writeable")
    arrays[1].flags.writeable = True
    for g, message in [
        (np.ones(4), r"arrays\[1\] is float64, its gradient float64 of shape \(4,\)"),
        (np.ones((2, 2), np.float32), r"arrays\[1\] is float64, its gradient float32"),
        (np.ones((2, 2), object), r"arrays\[1\] is float64, its gradient object"),
        (np.ones((2, 2), ">f8"), r"arrays\[1\] is float64, its gradient >f8"),
        (np.ma.array(np.ones((2, 2)), mask=np.eye(2)), r"gradients\[1\] is a masked"),
    ]:
        refused(message, gradients=[gradients[0], g, gradients[2]])
    refused("3 arrays and 2 gradients given, 3 of each", gradients=gradients[:2])
    for name, a in update.state_arrays().items():
        lock(a)
        place = name.partition(".")[2]
        place = rf"arrays\[{place}\]" if place else "the update"
        refused(rf"{place} has a state '{name}' that is read-only")
        a.flags.writeable = True
    rates = [1.0, math.nan]
    update.lr = lambda t: rates.pop(0)
    before[1]["lr"] = update.state_dict()["lr"]
    refused("step 1: lr is nan; a positive number")
    with pytest.raises(IndexError):
        update.apply(arrays, gradients)  # the list of rates is at its end
    refused("its gradient a str", gradients=[gradients[0], "no gradient", gradients[2]])
    update.lr = 1.0
    update.apply(arrays, gradients)
    assert update.state_dict()["t"] == 2


@pytest.mark.parametrize("make", makers())
def test_a_gradient_may_be_the_array_itself(make):
    a, b = np.array([1.0, -2.0]), np.array([1.0, -2.0])
    one, other = make([a]), make([b])
    for _ in range(3):
        one.apply([a], [a])
        other.apply([b], [b.copy()])
        assert_same(a, b)
    decayed, twin = (updates.AdamWUpdate([a], 0.1, weight_decay=0.5) for _ in range(2))
    decayed.apply([a], [a])
    twin.apply([b], [b.copy()])
    assert_same(a, b)


def test_a_state_is_checked_before_the_first_write():
    p = np.ones(2)
    adam = updates.AdamUpdate([p], lr=0.5)
    adam.apply([p], [np.ones(2)])
    before = adam.state_dict()
    for name, value, message in [
        ("t", math.nan, "Adam.load_state_dict: t is nan; at least 0"),
        ("t", -1.0, "t is -1.0; at least 0"),
        ("t", math.inf, "t is inf"),
        ("lr", 0.0, "lr is 0.0; a positive number"),
        ("betas", [0.9, 1.0], r"betas\[1\] is 1.0; a number in"),
    ]:
        state = {k: a + 1 for k, a in before.items()}
        state |= {"betas": before["betas"], name: np.array(value)}
        with pytest.raises(ValueError, match=message):
            adam.load_state_dict(state)
        for k, a in adam.state_dict().items():
            np.testing.assert_array_equal(a, before[k])
        assert adam.lr == 0.5


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
@pytest.mark.parametrize("make", makers())
def test_a_copied_update_continues_with_its_own_state(make, way):
    # Also for a 0-d array, whose moments are updated through views.
    def run(arrays, update):
        for t in range(3):
            update.apply(arrays, [np.full(a.shape, t - 1.5) for a in arrays])

    one = [np.array(1.0), np.ones((2, 3))]
    update = make(one)
    update.lr = schedules.cosine_decay(0.1, 10)
    run(one, update)
    other, twin = way((one, update))
    run(one, update)
    run(other, twin)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    for name, a in twin.state_dict().items():
        np.testing.assert_array_equal(a, update.state_dict()[name])
    assert twin.lr == update.lr


class Impatient(np.ndarray):
    """An array that raises KeyboardInterrupt at its write number `wait` + 1."""

    wait = 0

    def __setitem__(self, key, value):
        if self.wait == 0:
            self.wait = None
            raise KeyboardInterrupt
        if self.wait is not None:
            self.wait -= 1
        super().__setitem__(key, value)


def test_updates_refuse_masked_arrays():
    masked = np.ma.array(np.ones(2), mask=[0, 1])
    for make in (lambda a: updates.AverageUpdate(a, 0.5), updates.AdamUpdate):
        with pytest.raises(TypeError, match=r"arrays\[1\] is a masked array; pass"):
            make([np.ones(2), masked])
