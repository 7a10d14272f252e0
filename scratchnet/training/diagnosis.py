"""Which operation made the first number that is not finite."""

from collections.abc import Callable
from typing import Any

from scratchnet.anomaly import detect_anomaly, watched


def watch(take: Callable[[int, Any], Any], i: int, model: Any) -> str:
    """Take step i, and say which operation first made a number that is not finite."""
    if getattr(model, "group", None) is not None:
        return "One process alone finds out which operation made it."
    by_hand = hasattr(model, "step") or hasattr(model, "discriminator_step")
    try:
        with detect_anomaly():
            take(i, watched(model) if by_hand else model)
    except FloatingPointError as error:
        return f"First not finite:\n  {error}"
    except Exception as error:  # of a model that cannot be watched
        return f"(No operation was found: {error!r})"
    return "No single operation made it."
