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

    final + (lr − final) · (1 + cos(π t / steps)) / 2 in step t = 0, 1, ... (Loshchilov
    & Hutter 2017, equation 5, without restarts). From t = steps on it stays where the
    last step had it, which is above `final`: a rate is positive.

    Raises:
        TypeError, ValueError: lr or steps is not positive, or final not in [0, lr].

    """
    _check_decay("cosine_decay", lr, steps, final)
    return partial(_cosine, lr=lr, steps=steps, final=final)


# The rates are functions of the module, so that they can be pickled.


def _cosine(t: int, *, lr: float, steps: int, final: float) -> float:
    part = min(t, steps - 1) / steps
    # (1 + cos 2a) / 2 = cos² a, which is not rounded to 0 near the end.
    return final + (lr - final) * math.cos(math.pi / 2 * part) ** 2


def hold_then_decay(
    lr: float, steps: int, hold: float = 0.5, final: float = 0.0
) -> Callable[[int], float]:
    """Return the rate that is `lr` for a while, then falls to `final` in a line.

    So GANs are often trained (Zhu et al. 2017, section 4).

    Args:
        lr: the rate of the first hold · steps steps.
        steps: from t = steps on it stays where the last step had it, above `final`.
        hold: the fraction of the steps that come before the fall, in [0, 1).
        final: where it would be in step t = steps, in [0, lr].

    Raises:
        TypeError, ValueError: a number is out of its range.

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
