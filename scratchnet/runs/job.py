"""What is to be trained, and on what."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scratchnet.runs.images import Images
from scratchnet.runs.model import build
from scratchnet.runs.streams import Streams
from scratchnet.training.checkpoint import Save, State
from scratchnet.training.distributed import Group


class Job(NamedTuple):
    """What is to be trained, and on what."""

    system: str  # a name in `SYSTEMS`
    options: Mapping[str, Any]  # the run's
    facts: dict[str, Any]  # the arguments of its model
    train: Images
    held_out: Images
    streams: Streams
    checkpoints: Save
    resume: State | None  # what to go on from
    group: Group | None = None  # the processes that train it

    def build(self, **update: Any) -> Any:
        """Make the model; by hand, with these options of its update."""
        engine = self.options["engine"]
        memory = {"batch_size": self.options["batch_size"], **update}
        return build(self.system, self.facts, engine, self.streams.init, **memory)
