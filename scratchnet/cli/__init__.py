"""The command line: what `python -m scratchnet` does.

main                           starts a command
options                        parses the options; the text of --help
train                          trains a system; judge measures how good it is
sample, reconstruct, encode    the commands that use a trained run
console                        prints
"""
