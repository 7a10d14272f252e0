"""Learning rates that change from step to step."""

import math
from collections.abc import Callable
from functools import partial

from scratchnet import checks

# --- Learning rates -----------------------------------------------------------------

# A learning rate is a number, or a function of the number of steps taken so far.
Rate = float | Callable[[int], float]


def cosine_decay(lr: float, steps: int, final: float = 0.0) -> Callable[[int], float]:
    """Return the rate that falls from `lr` to `final` as half a cosine.

    In step t = 0, 1, ... it is final + (lr − final) · (1 + cos(π t / steps)) / 2
    (Loshchilov & Hutter 2017, equation 5, without restarts). From t = steps on it keeps
    the value of step steps − 1, which is above `final` and so positive.

    Raises:
        TypeError, ValueError: lr or steps is not positive, or final is not in [0, lr].

    """
    _check_decay("cosine_decay", lr, steps, final)
    return partial(_cosine, lr=lr, steps=steps, final=final)


# The rates are functions of this module, so that they can be pickled.


def _cosine(t: int, *, lr: float, steps: int, final: float) -> float:
    part = min(t, steps - 1) / steps
    # (1 + cos 2a) / 2 = cos² a, which is not rounded to 0 near the end.
    return final + (lr - final) * math.cos(math.pi / 2 * part) ** 2


def hold_then_decay(
    lr: float, steps: int, hold: float = 0.5, final: float = 0.0
) -> Callable[[int], float]:
    """Return the rate that is `lr` at first, then falls linearly to `final`.

    GANs are often trained with it (Zhu et al. 2017, section 4).

    Args:
        lr: the rate of the first hold · steps steps.
        steps: from t = steps on, the rate keeps the value of step steps − 1.
        hold: the fraction of the steps before the decay, in [0, 1).
        final: the end of the line, at t = steps, in [0, lr]; no step reaches it.

    Raises:
        TypeError, ValueError: a number is out of range.

    """
    _check_decay("hold_then_decay", lr, steps, final)
    held = checks.number("hold_then_decay", "hold", hold, "[0, 1)") * steps
    return partial(_line, lr=lr, steps=steps, held=held, final=final)


def _line(t: int, *, lr: float, steps: int, held: float, final: float) -> float:
    part = max(0.0, min(t, steps - 1) - held) / (steps - held)
    return lr + (final - lr) * part


def _check_decay(owner: str, lr: float, steps: int, final: float) -> None:
    checks.number(owner, "lr", lr, checks.POSITIVE)
    checks.count(owner, "steps", steps)
    checks.number(owner, "final", final, f"[0, {lr}]")
