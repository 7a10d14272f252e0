"""scratchnet: deep learning from scratch, in NumPy.

`Tensor` is a NumPy array that can be differentiated; `byhand` has the same systems
derived on paper; `testing` checks both kinds of gradients. Start with graph.py.

Every name is loaded on first use: `import scratchnet` alone does not load NumPy, and
`scratchnet.losses` needs no separate import.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "GraphError",
    "NoRuleError",
    "Tensor",
    "anomaly",
    "backend",
    "byhand",
    "data",
    "detect_anomaly",
    "functions",
    "grad",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "losses",
    "mark_modified",
    "metrics",
    "models",
    "nn",
    "no_grad",
    "nondifferentiable",
    "optim",
    "plots",
    "primitive",
    "relu",
    "report",
    "rewrite",
    "rule",
    "rule_each",
    "runs",
    "sigmoid",
    "softmax",
    "softplus",
    "testing",
    "training",
    "value_and_grad",
]

# The module that defines each name. The other names are modules.
_HOME = {
    "detect_anomaly": "anomaly",
    **dict.fromkeys(("GraphError", "mark_modified", "no_grad"), "graph"),
    **dict.fromkeys(("NoRuleError", "nondifferentiable", "primitive"), "table"),
    **dict.fromkeys(("rewrite", "rule", "rule_each"), "table"),
    **dict.fromkeys(("Tensor", "grad", "value_and_grad"), "tensor"),
    **dict.fromkeys(("leaky_relu", "log_sigmoid", "log_softmax"), "functions"),
    **dict.fromkeys(("logsumexp", "relu", "sigmoid", "softmax"), "functions"),
    "softplus": "functions",
}

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from scratchnet import (
        anomaly,
        backend,
        byhand,
        data,
        functions,
        losses,
        metrics,
        models,
        nn,
        optim,
        plots,
        report,
        runs,
        testing,
        training,
    )
    from scratchnet.anomaly import detect_anomaly
    from scratchnet.functions import (
        leaky_relu,
        log_sigmoid,
        log_softmax,
        logsumexp,
        relu,
        sigmoid,
        softmax,
        softplus,
    )
    from scratchnet.graph import GraphError, mark_modified, no_grad
    from scratchnet.table import (
        NoRuleError,
        nondifferentiable,
        primitive,
        rewrite,
        rule,
        rule_each,
    )
    from scratchnet.tensor import Tensor, grad, value_and_grad
else:

    def __getattr__(name: str) -> Any:
        """Load a name on first use (PEP 562)."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module 'scratchnet' has no attribute {name!r}")
        module = import_module(f"scratchnet.{_HOME.get(name, name)}")
        if _HOME.get(name) == "table":
            module.load()  # before the user adds rows, which then replace these
        found = getattr(module, name) if name in _HOME else module
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """List all public names, loaded or not."""
    return sorted([*__all__, "__version__"])
