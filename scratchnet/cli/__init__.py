"""The command line: what `python -m scratchnet` does."""
