"""Training: epochs of shuffled minibatches, for a model with the engine or by hand."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchnet import backend, kernels
from scratchnet.backend import Array
from scratchnet.optim import Optimizer
from scratchnet.tensor import no_grad, plain


@dataclass
class History:
    """What a training run was like, one entry for each epoch.

    Attributes:
        losses: mean loss of the samples, each as it was when its minibatch came.
        validation_losses: mean loss of the validation samples after the epoch; empty
            if there are none.
        seconds: time that the epoch took, validation included.

    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def fit(
    model: Any,
    x: Array,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    optimizer: Optimizer | None = None,
    validation: Array | None = None,
    progress: bool = True,
    callback: Callable[[History], None] | None = None,
) -> History:
    """Train a model on the samples x, and say how it went.

    Every epoch visits all samples once, in an order of its own, `batch_size` at a time;
    the last minibatch holds what is left.

    Args:
        model: with the engine, anything with `loss(x)`, trained by `optimizer`; or by
            hand, anything with `step(x)`, which brings its own update.
        x: the samples (n, d), in the dtype of the model: nothing is cast in passing.
        epochs: how many times to visit all samples.
        batch_size: samples in a minibatch, at most n.
        rng: shuffles; only the order of the samples comes from it.
        optimizer: for a model with the engine.
        validation: samples (m, d) whose loss is taken after each epoch.
        progress: show a progress bar, if stderr is a terminal.
        callback: called after each epoch with the history so far.

    Raises:
        TypeError, ValueError: an argument is not what is said above, x is empty or
            has values that are not finite; nothing was trained then.
        FloatingPointError: the loss is not finite any more. Looked at once an epoch,
            as looking would make a GPU wait.

    """
    kernels.check_count("fit", "epochs", epochs)
    kernels.check_count("fit", "batch_size", batch_size)
    kernels.check_rng("fit", rng)
    _check(model, x, batch_size, optimizer, validation)
    # Here, so that importing this module stays fast.
    from tqdm import tqdm  # type: ignore[import-untyped]

    n = len(x)
    starts = range(0, n, batch_size)
    sizes = [min(batch_size, n - start) for start in starts]
    # The losses of an epoch stay where they are computed until its end.
    losses = backend.empty(len(starts), x.dtype)
    history = History()
    # disable=None: no bar where stderr is no terminal.
    disable = None if progress else True
    with tqdm(total=epochs * len(starts), unit="step", disable=disable) as bar:
        for epoch in range(epochs):
            began = time.perf_counter()
            order = backend.asarray(rng.permutation(n))
            for i, start in enumerate(starts):
                # A fresh array each time: the graph of the last loss may still read
                # the last one.
                batch = x[order[start : start + batch_size]]
                losses[i] = _step(model, batch, optimizer)
                bar.update(1)
            history.losses.append(_mean(losses, sizes, epoch))
            if validation is not None:
                loss = _validate(model, validation, batch_size)
                history.validation_losses.append(loss)
            history.seconds.append(time.perf_counter() - began)
            bar.set_postfix(epoch=epoch + 1, loss=history.losses[-1])
            if callback is not None:
                callback(history)
    return history


def _step(model: Any, batch: Array, optimizer: Optimizer | None) -> Array:
    """Train on one minibatch; return its loss, still on the device."""
    if optimizer is None:
        return model.step(batch)
    optimizer.zero_grad()
    loss = model.loss(batch)
    loss.backward()
    optimizer.step()
    return loss.data


def _mean(losses: Array, sizes: list[int], epoch: int) -> float:
    """Return the mean loss of the samples of an epoch, and demand that it is finite."""
    host = backend.to_numpy(losses).astype(np.float64)
    bad = ~np.isfinite(host)
    if bad.any():
        i = int(np.argmax(bad))
        raise FloatingPointError(
            f"fit: the loss became {host[i]} in epoch {epoch + 1}, step {i + 1} of "
            f"{len(host)}; a smaller learning rate may help"
        )
    return float(np.average(host, weights=sizes))


def _validate(model: Any, x: Array, batch_size: int) -> float:
    """Return the mean loss of the samples x; nothing is recorded or trained."""
    total = backend.zeros((), np.float64)
    with no_grad():
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size]
            total += plain(model.loss(batch)) * len(batch)
    return float(backend.to_numpy(total)) / len(x)


def _check(
    model: Any,
    x: Array,
    batch_size: int,
    optimizer: Optimizer | None,
    validation: Array | None,
) -> None:
    """Raise an error for whatever would go wrong later, or quietly."""
    by_hand = hasattr(model, "step")
    if not by_hand and not hasattr(model, "loss"):
        raise TypeError(f"fit: a {type(model).__name__} has neither loss nor step")
    if by_hand and optimizer is not None:
        raise TypeError(
            f"fit: {type(model).__name__} steps by itself; give the optimizer to its "
            "constructor"
        )
    if not by_hand and optimizer is None:
        raise TypeError(
            "fit: optimizer is missing, like optim.Adam(model.parameters())"
        )
    _check_data(model, "x", x)
    if validation is not None:
        _check_data(model, "validation", validation)
    if batch_size > len(x):
        raise ValueError(f"fit: batch_size is {batch_size}, and x has {len(x)} rows")
    most = getattr(model, "batch_size", batch_size)
    if batch_size > most:
        raise ValueError(
            f"fit: batch_size is {batch_size}, and {type(model).__name__} was made "
            f"for batch_size={most}"
        )


def _check_data(model: Any, name: str, x: Array) -> None:
    if not backend.is_array(x):
        raise TypeError(f"fit: {name} is a {type(x).__name__}, an array expected")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"fit: {name} has shape {x.shape}; (n, d), a row for each sample, expected"
        )
    if x.dtype.kind != "f":
        raise TypeError(
            f"fit: {name} is {x.dtype}, floats expected; for pixels pass "
            f"{name}.astype(np.float32) / 255"
        )
    finite = backend.to_numpy(np.isfinite(x).all(axis=1))
    if not finite.all():
        raise ValueError(
            f"fit: {name} has values that are not finite, in {np.sum(~finite)} of "
            f"{len(x)} rows, row {np.argmin(finite)} first"
        )
    if hasattr(model, "check"):
        model.check(x)
