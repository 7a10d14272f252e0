"""The command line: what `python -m scratchnet` does.

main                           starts a command
options                        the options, how they are read, what --help says
train                          trains a system; judge says how good it is
sample, reconstruct, encode    the commands that start from a run
console                        what is printed
"""
