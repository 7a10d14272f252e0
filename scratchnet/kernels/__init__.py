"""Arithmetic that the engine and the systems by hand share, equal to the last bit.

- initializers: initial weights
- buffers: flat memory, and its state
- schedules: learning rates as functions of the step
- updates: SGD, Adam, AdamW, the running average
- activations: activations and the cross-entropy, in place

The public names are in `scratchnet.optim` and `scratchnet.nn`.
"""
