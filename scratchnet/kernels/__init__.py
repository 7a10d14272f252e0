"""The arithmetic that a step by the engine and a step by hand share, to the last bit.

- initializers: how weights are drawn
- buffers: flat memory, and the state in it
- schedules: learning rates that change from step to step
- updates: SGD, Adam, AdamW, the running average
- activations: activations and the cross-entropy, in place

`scratchnet.optim` and `scratchnet.nn` have the public names.
"""
