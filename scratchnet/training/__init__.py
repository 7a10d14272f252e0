"""Training: epochs of minibatches, states to resume from, several processes."""

from scratchnet.training.checkpoint import Checkpoints, State, Stopped
from scratchnet.training.distributed import Group
from scratchnet.training.gan import fit_gan
from scratchnet.training.history import GANHistory, History
from scratchnet.training.loop import fit
from scratchnet.training.pretraining import pretrain

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
