"""A run on disk: what `python -m scratchnet train` wrote, and how to read it back.

`load("runs/vae")` rebuilds the trained model, for a notebook say. From the ground up:

    streams, images     the random numbers and the images of a run
    systems, model      the systems with their options; a model made from facts
    identity, lock      what run.json says; one process at a time
    files, resume       the files that are the run's own; whether it can be resumed
    job, trained        what is to be trained; a run that was trained, read back
"""

from scratchnet.runs.files import Folder
from scratchnet.runs.identity import RunError
from scratchnet.runs.trained import load

__all__ = ["Folder", "RunError", "load"]
