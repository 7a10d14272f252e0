"""The data sets, and the corruptions for denoising.

Digits drawn with known factors, scenes with a water deer, mixtures with a known
density, MNIST from its files; noise and fog, and the classic filters to remove them.
Each module is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["corruption", "deer", "digits", "filters", "idx", "mixtures"]

if TYPE_CHECKING:
    from scratchnet.data import corruption, deer, digits, filters, idx, mixtures
else:

    def __getattr__(name: str) -> Any:
        """Load a name when it is first asked for (PEP 562)."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module 'scratchnet.data' has no attribute {name!r}")
        return import_module(f"scratchnet.data.{name}")


def __dir__() -> list[str]:
    """List what can be asked for, loaded or not."""
    return sorted({*globals(), *__all__})
