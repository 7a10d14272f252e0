"""A job: a system to train, its options and its data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scratchnet.runs.images import Images
from scratchnet.runs.model import build
from scratchnet.runs.moments import Moments
from scratchnet.runs.streams import Streams
from scratchnet.training.checkpoint import Save, State
from scratchnet.training.distributed import Group


class Job(NamedTuple):
    """A system to train, its options and its data."""

    system: str  # a name in `SYSTEMS`
    options: Mapping[str, Any]  # of the run
    facts: dict[str, Any]  # the arguments of its model
    train: Images
    held_out: Images
    streams: Streams
    checkpoints: Save
    resume: State | None  # the state to resume from
    group: Group | None = None  # the processes that train it
    moments: Moments | None = None  # what it keeps for its page

    def build(self, **update: Any) -> Any:
        """Make the model; a model by hand gets these options of its update."""
        engine = self.options["engine"]
        memory = {"batch_size": self.options["batch_size"], **update}
        return build(self.system, self.facts, engine, self.streams.init, **memory)
