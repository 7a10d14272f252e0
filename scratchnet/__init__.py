"""scratchnet: deep learning from scratch, in NumPy.

`Tensor` is a NumPy array that can be differentiated; `byhand` has the same systems
derived on paper; `testing` checks either kind of gradient. Start with tensor.py.
"""

from scratchnet import compositions as _compositions  # noqa: F401  fills the table
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

__version__ = "0.1.0"

__all__ = [
    "GraphError",
    "NoRuleError",
    "Tensor",
    "detect_anomaly",
    "grad",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mark_modified",
    "no_grad",
    "nondifferentiable",
    "primitive",
    "relu",
    "rewrite",
    "rule",
    "rule_each",
    "sigmoid",
    "softmax",
    "softplus",
    "value_and_grad",
]
