"""A run on disk: what it is, which files in its folder are its own, who works there."""

from scratchnet.runs.folder import Folder, RunError

__all__ = ["Folder", "RunError"]
