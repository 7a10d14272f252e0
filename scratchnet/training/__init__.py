"""Training: epochs of minibatches, states to resume from, several processes."""

from scratchnet.training.checkpoint import Checkpoints, State, Stopped
from scratchnet.training.distributed import Group
from scratchnet.training.loop import GANHistory, History, fit, fit_gan, pretrain

__all__ = [
    "Checkpoints",
    "GANHistory",
    "Group",
    "History",
    "State",
    "Stopped",
    "fit",
    "fit_gan",
    "pretrain",
]
