"""A run on disk: the files that `python -m scratchnet train` writes, and reading them.

`load("runs/vae")` rebuilds the trained model, in a notebook, for example. From the
ground up:

    streams, images     the random numbers and the images of a run
    systems, model      the systems with their options; a model made from facts
    identity, lock      the content of run.json; one process at a time
    files, resume       the files that belong to a run; whether it can be resumed
    moments             pictures that are kept while a model trains
    job, trained        a training to do; a trained run, read back
"""

from scratchnet.runs.files import Folder
from scratchnet.runs.identity import RunError
from scratchnet.runs.trained import load

__all__ = ["Folder", "RunError", "load"]
