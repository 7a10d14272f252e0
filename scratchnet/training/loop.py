"""Training, of a model with the engine or by hand: epochs of shuffled minibatches.

`fit` is for everything that goes down one loss, `pretrain` for a stack layer by layer,
and `fit_gan` for the game of two.
"""

import contextlib
import copy
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from scratchnet import backend, checks
from scratchnet.anomaly import detect_anomaly, watched
from scratchnet.backend import Array
from scratchnet.backend.philox import Stream, stream_for
from scratchnet.nn import Module, inference
from scratchnet.optim import Optimizer
from scratchnet.tensor import Tensor, plain
from scratchnet.training import distributed
from scratchnet.training.checkpoint import (
    FORMAT,
    Save,
    State,
    adding,
    generator_state,
    machine,
    save_last,
    set_generator_state,
)
from scratchnet.training.distributed import digest
from scratchnet.training.facts import described, generators_of

Batch = tuple[Array, ...]


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
    x: Array | tuple[Array, ...],
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    optimizer: Optimizer | None = None,
    noise: np.random.Generator | None = None,
    validation: Array | tuple[Array, ...] | None = None,
    progress: bool = True,
    callback: Callable[[History], None] | None = None,
    checkpoints: Save | None = None,
    resume: State | None = None,
    group: distributed.Group | None = None,
) -> History:
    """Train a model on the samples x, and say how it went.

    Every epoch visits all samples once, in an order of its own, `batch_size` at a time;
    the last minibatch holds what is left. Where the model wants noise (a VAE's ε, a
    corruption), it has a method `with_noise`, and each minibatch gets its own.

    On a GPU the noise is drawn there, by a `philox.Stream` with a key that `noise`
    draws; and by hand a step is recorded and then replayed (`backend.capture`), but for
    the last, smaller minibatch of an epoch, which is computed as it comes. What a
    callback changes in between, but for a learning rate, a recording does not know of.

    Args:
        model: with the engine, anything with `loss(*batch)`, trained by `optimizer`; or
            by hand, anything with `step(*batch)`, which brings its own update.
        x: the samples (n, d), in the dtype of the model: nothing is cast in passing. Or
            a tuple of arrays with n rows each, (x, label), that belong together.
        epochs: how many times to visit all samples.
        batch_size: samples in a minibatch, at most n.
        rng: shuffles; only the order of the samples comes from it.
        optimizer: for a model with the engine.
        noise: draws the noise, for a model that wants some.
        validation: like x; its loss is taken after each epoch, every time under the
            same noise.
        progress: show a progress bar, if stderr is a terminal.
        callback: called after each epoch with the history so far.
        checkpoints: a `Checkpoints`; is handed the state after each step, to be written
            now and then, and the state after the last step.
        resume: a state of such a run, `checkpoints.last()`. With the same arguments as
            in that run, generators made from the same seeds among them, the run goes on
            from there and ends as it would have ended, to the last bit. `epochs` may
            differ: more of them extend a run, also one that has ended.
        group: other processes, which call `fit` with the same arguments (but x, if the
            group is `sharded`), to train the same model by hand together. `batch_size`
            is the rows of all. Process 0 has the progress bar, and its state counts.
            Before the first step they compare all that makes the run, data too.

    Raises:
        TypeError, ValueError: an argument is not what is said above, x is empty or
            has values that are not finite, or `resume` is of a run with other
            arguments; nothing was trained then.
        FloatingPointError: the loss is not finite any more. Looked at once an epoch,
            as looking would make a GPU wait. The epoch is then gone through again, to
            say in which step, and which operation (with the engine) or line (by hand)
            made the first number that is not finite; model, optimizer and generators
            are left as they were before that step.
        Stopped, OSError: from `checkpoints`.

    """
    checks.count("fit", "epochs", epochs)
    checks.count("fit", "batch_size", batch_size)
    checks.rng("fit", rng)
    _check_callback("fit", callback)
    data = _uploaded("fit", "x", x)
    held_out = (
        None if validation is None else _uploaded("fit", "validation", validation)
    )
    if group is not None:
        distributed.check("fit", group, model)
        if checkpoints is not None and getattr(checkpoints, "group", None) is not group:
            raise ValueError("fit: checkpoints: pass Checkpoints(folder, group=group)")
    _check(model, data, optimizer, noise, held_out)
    n = len(data[0]) if group is None else group.total(len(data[0]))
    _check_batch_size("fit", model, batch_size, n)
    source = stream_for(noise)
    draw = _noise_of(model, source)
    quiet = noise.spawn(1)[0] if noise is not None else None
    # Here, so that importing this module stays fast.
    from tqdm import tqdm

    starts = range(0, n, batch_size)
    sizes = [min(batch_size, n - start) for start in starts]
    # The losses of an epoch stay where they are computed until its end.
    losses = backend.zeros(len(starts), data[0].dtype)
    order = np.arange(n)
    indices = backend.asarray(order)
    history = History()
    place = _Place(
        "fit",
        {
            "model": model,
            "optimizer": optimizer or getattr(model, "optimizer", None),
            **_streams(noise=source),
        },
        {"rng": rng, "noise": noise, "quiet": quiet},
        history,
        rows=n, batch_size=batch_size, epochs=epochs, validation=held_out is not None,
    )  # fmt: skip
    done = 0  # steps of the epoch
    if group is not None:
        resume = group.from_first(resume)
        group.agree("fit", {
            **place.everything(),
            **distributed.facts_of("x", data, group.sharded),
            **distributed.facts_of("validation", held_out or (), False),
            "checkpoints": checkpoints is not None,
        })  # fmt: skip
    if checkpoints is not None or resume is not None:
        place.describe(() if group is not None and group.sharded else data)
    if resume is not None:
        place.check_facts(resume.facts)
        _check_order(resume, n, len(starts))
        restored = place.restore(resume, losses=losses, order=order)
        losses[...] = backend.asarray(restored["losses"])
        order = restored["order"]
        done = resume.facts["step"]

    def step(i: int, model: Any) -> Array:
        # Fresh arrays each time: the graph of the last loss may still read the last
        # ones.
        end = starts[i] + batch_size
        if group is not None:
            rows = order[starts[i] : end]
            part = group.share(data, rows, draw if noise is not None else None)
            return model.step(*part, total_rows=len(rows))
        return train_on(indices[starts[i] : end], model)

    def train_on(rows: Array, model: Any) -> Array:
        return _step(model, draw(*[a[rows] for a in data]), optimizer)

    # The same for a recording, which finds in an array which step it is.
    position = backend.zeros(1, np.int64)
    within = backend.asarray(np.arange(batch_size))

    def next_step() -> None:
        rows = np.take(indices, position * batch_size + within)
        losses[position] = train_on(rows, model)
        np.add(position, 1, out=position)

    replay = None
    if _recordable(model) and group is None:
        replay = backend.capture(next_step)

    def validate(model: Any) -> float:
        same = _noise_of(model, stream_for(copy.deepcopy(quiet)))
        return _validate(model, held_out or (), batch_size, same, group)

    def name(epoch: int, i: int) -> str:
        return f"epoch {epoch + 1}, step {i + 1} of {len(starts)}"

    first = len(history.losses)
    shown = progress and (group is None or group.rank == 0)
    began_at = first * len(starts) + done
    with (
        _trained_by(group, model),
        tqdm(
            total=epochs * len(starts),
            initial=began_at,
            unit="step",
            disable=_no_bar(shown),
        ) as bar,
    ):
        for epoch in range(first, epochs):
            began = time.perf_counter()
            if not done:
                order = rng.permutation(n)
            indices[...] = backend.asarray(order)
            position[...] = done
            good = place.snapshot(done)
            try:
                for i in range(done, len(starts)):
                    if replay is not None and sizes[i] == batch_size:
                        replay()
                    else:
                        losses[i] = step(i, model)
                    bar.update(1)
                    if checkpoints is not None:
                        checkpoints(
                            partial(place.state, i + 1, losses=losses, order=order)
                        )
                host = backend.to_numpy(losses).astype(np.float64)
                if not np.isfinite(host).all():
                    i = int(np.argmin(np.isfinite(host)))
                    raise _NotFinite(f"the loss became {host[i]} in {name(epoch, i)}")
                place.check()  # the last update has no loss to show itself in
                if group is not None:
                    group.agree("fit", {"the weights": model.theta})
            except _NotFinite as error:
                steps = range(done, len(starts))
                raise place.diagnosis(
                    error, good, steps, step, model, partial(name, epoch)
                ) from None
            done = 0
            history.losses.append(float(np.average(host, weights=sizes)))
            if held_out is not None:
                loss = validate(model)
                if not np.isfinite(loss):
                    made = _watch(lambda _, model: validate(model), 0, model)
                    raise FloatingPointError(
                        f"fit: the validation loss became {loss} in epoch {epoch + 1}; "
                        f"a smaller learning rate may help. {made}"
                    )
                history.validation_losses.append(loss)
            history.seconds.append(time.perf_counter() - began)
            bar.set_postfix(epoch=epoch + 1, loss=history.losses[-1])
            if callback is not None:
                callback(history)
    save_last(checkpoints, partial(place.state, 0, losses=losses, order=order))
    return history


def _check_order(state: State, n: int, steps: int) -> None:
    """Raise ValueError unless a state visits each of n samples once, in so many steps.

    Of an order of another length `_Place.restore` says more.
    """
    order = state.arrays.get("order")
    wrong = state.facts["step"] > steps
    if order is not None and order.shape == (n,):
        wrong = wrong or not np.array_equal(np.sort(order), np.arange(n))
    if wrong:
        raise ValueError(f"fit: resume: the state is damaged, or not of {n} samples")


def _no_bar(shown: bool) -> bool | None:
    """Return tqdm's `disable`; None is its word for "unless stderr is a terminal"."""
    return None if shown and sys.stderr is not None else True


def _part(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays that are called NAME.something, by what follows."""
    begin = f"{name}."
    return {k.removeprefix(begin): a for k, a in arrays.items() if k.startswith(begin)}


class _NotFinite(Exception):
    """There are numbers in a run that are not finite; says where."""


def _not_finite(arrays: Mapping[str, Array]) -> str | None:
    """Say which array has a value that is not finite, and which; None if none has."""
    floats = {name: a for name, a in arrays.items() if a.dtype.kind == "f"}
    if not floats:
        return None
    # One transfer from a device says that all is well.
    fine = backend.to_numpy(np.stack([np.isfinite(a).all() for a in floats.values()]))
    for (name, a), right in zip(floats.items(), fine, strict=True):
        if not right:
            host = backend.to_numpy(a)
            return f"{name} became {host[~np.isfinite(host)][0]}"
    return None


def _shown(part: Any) -> dict[str, Array]:
    """Return the arrays of a part, or copies on the host if it shows only those."""
    found: dict[str, Array] = getattr(part, "state_arrays", part.state_dict)()
    return found


# Arguments that say how long to train: they may differ in a run that is resumed.
LENGTHS = ("epochs", "steps")


class _Place:
    """Where a run is: what its state is made of, and how it is restored.

    Args:
        owner: "fit", ... in errors.
        parts: by name, what has `state_dict` and `load_state_dict`.
        generators: by name; None where there is none. Those that the parts hold
            themselves (`Dropout`) are found.
        history: a dataclass of lists.
        **arguments: of the run, which a resumed one must have in common with it.

    """

    def __init__(
        self,
        owner: str,
        parts: Mapping[str, Any],
        generators: Mapping[str, np.random.Generator | None],
        history: Any,
        **arguments: Any,
    ) -> None:
        self.owner = owner
        self.parts = parts
        self.generators = {k: g for k, g in generators.items() if g is not None}
        for name, part in parts.items():
            if isinstance(part, Module):
                own = part.named_generators()
                self.generators |= {f"{name}.{k}": g for k, g in own}
        self.history = history
        self.run: dict[str, str] = {}  # the id of a run that is resumed
        self.made: dict[str, Any] = {}  # what `describe` found
        self.arguments = {"run": owner, **arguments, "generators": [*self.generators]}

    def describe(self, data: Batch) -> None:
        """Take up what the parts and the data are, for states to carry.

        A model of the user's own may hold what changes from run to run. A learning rate
        that is a function may be another in a run that is extended, and code is not the
        same in each version of Python.
        """
        own = {
            name: part
            for name, part in self.parts.items()
            if type(part).__module__.startswith("scratchnet.")
            and not isinstance(part, Stream)
        }
        self.made = {
            name: fact
            for name, fact in described(**own).items()
            if not {"lr", "_rate"} & set(re.split(r"[.\[]", name))
            and not name.endswith("(code)")
        }
        self.made |= {_label("x", i, data): digest(a) for i, a in enumerate(data)}

    def state(self, step: int, **arrays: Array) -> State:
        """Return the state after so many steps, with more arrays of the run.

        Raises:
            _NotFinite: it is none to go on from.

        """
        self.check(**arrays)
        found = {name: np.array(backend.to_numpy(a)) for name, a in arrays.items()}
        for name, part in self._checked_parts():
            found |= {f"{name}.{k}": a for k, a in part.state_dict().items()}
        return State(found, self._facts(step))

    def check(self, **arrays: Array) -> None:
        """Raise _NotFinite unless the parameters and these arrays are finite."""
        model = self.parts["model"]
        if hasattr(model, "load_state_dict"):
            buffers = dict(model.named_buffers()) if isinstance(model, Module) else {}
            # A buffer may well be infinite: a mask of scores, say.
            arrays |= {k: a for k, a in _shown(model).items() if k not in buffers}
        if found := _not_finite(arrays):
            raise _NotFinite(found)

    def snapshot(self, step: int) -> State | None:
        """Return the state after so many steps, its arrays where they are.

        None if a part can have no state.
        """
        if not all(hasattr(p, "load_state_dict") for p in self.parts.values()):
            return None
        return self._snapshot(step)

    def _snapshot(self, step: int) -> State:
        found = {
            f"{name}.{k}": a.copy()
            for name, part in self.parts.items()
            for k, a in _shown(part).items()
        }
        return State(found, self._facts(step))

    def _facts(self, step: int) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "machine": machine(),
            "arguments": self.arguments,
            "step": step,
            "history": {k: [*values] for k, values in vars(self.history).items()},
            "generators": self.random(),
            "made": self.made,
            **self.run,
        }

    def everything(self) -> dict[str, Any]:
        """Return, by name, what processes that train together must have in common."""
        found = described(**self.parts) | self.arguments
        for name, part in self._checked_parts():
            found |= {f"{name}.{k}": a for k, a in part.state_dict().items()}
            if callable(rate := getattr(part, "_rate", None)):
                found[f"{name}.lr of all steps"] = self._rates(rate)
        held = generators_of(**self.parts)
        return found | self.random() | {k: generator_state(g) for k, g in held.items()}

    def _rates(self, rate: Callable[[int], float]) -> np.ndarray:
        """Return a rate that is a function, in all steps or in 10,000 of them."""
        a = self.arguments
        steps = a["epochs"] * -(-a["rows"] // a["batch_size"])
        found = []
        with contextlib.suppress(Exception):  # the step will say so that comes there
            for t in range(0, steps, -(-steps // 10_000)):
                found.append(float(rate(t)))
        return np.array(found)

    def random(self) -> dict[str, Any]:
        """Return the states of the generators, by name."""
        return {k: generator_state(g) for k, g in self.generators.items()}

    def restore(self, state: State, **arrays: Array) -> dict[str, np.ndarray]:
        """Go back to a state, or change nothing and say what differs.

        Returns:
            The arrays of the run that have the names of `arrays`.

        """
        facts = state.facts
        self.check_facts(facts)
        for name, a in arrays.items():
            there = state.arrays.get(name)
            if there is None or there.shape != a.shape or there.dtype != a.dtype:
                raise ValueError(
                    f"{self.owner}: resume: the state is of another run: the array "
                    f"{name!r} is missing or another"
                )
        parts = self._checked_parts()
        streams = {name for name, part in parts if isinstance(part, Stream)}
        saved_parts = {name.partition(".")[0] for name in state.arrays}
        of_generators = {f"{k}_stream" for k in self.generators}
        if of_generators & saved_parts != streams:
            warnings.warn(
                f"{self.owner}: noise was drawn on a device there and is drawn on the "
                "host here, or the other way: it is another from here on",
                stacklevel=3,
            )
            parts = [(name, part) for name, part in parts if name not in streams]
        kept = [(part, part.state_dict()) for _, part in parts]
        generators = self.random()
        try:
            for name, part in parts:
                part.load_state_dict(_part(name, state.arrays))
            for k, g in self.generators.items():
                set_generator_state(g, facts["generators"][k])
        except (KeyError, ValueError, TypeError) as error:
            for part, before in kept:
                part.load_state_dict(before)
            for k, before in generators.items():
                set_generator_state(self.generators[k], before)
            raise ValueError(f"{self.owner}: resume: {error}") from error
        saved = facts.get("machine", {})
        for name, here in machine().items():
            if here != saved.get(name):
                warnings.warn(
                    f"{name} was {saved.get(name)} and now is {here}: the last bits "
                    "may differ from those of a run that was not interrupted",
                    stacklevel=3,
                )
        for name, values in facts["history"].items():
            getattr(self.history, name)[:] = values
        if "run" in facts:
            self.run = {"run": facts["run"]}
        return {name: state.arrays[name] for name in arrays}

    def check_facts(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError unless a state with these facts can be gone on from."""
        owner = f"{self.owner}: resume: the state"
        if isinstance(facts.get("format"), int) and facts["format"] > FORMAT:
            raise ValueError(f"{owner} was written by a later scratchnet")
        if wrong := self._differences(facts):
            raise ValueError(f"{owner} is of another run: {'; '.join(wrong)}")
        step, history = facts.get("step"), facts.get("history")
        if not (
            isinstance(step, int)
            and step >= 0
            and isinstance(history, dict)
            and history.keys() == vars(self.history).keys()
            and all(isinstance(values, list) for values in history.values())
            and isinstance(facts.get("generators"), dict)
        ):
            raise ValueError(
                f"{owner} is damaged: a fact is missing, or of another type"
            )
        unit = "steps" if "steps" in self.arguments else "epochs"
        done = step if unit == "steps" else len(history["losses"]) + (step > 0)
        if done > self.arguments[unit]:
            raise ValueError(
                f"{owner} has begun {done} {unit}; {unit} is {self.arguments[unit]}, "
                "and a run cannot be made shorter than it is"
            )

    def _differences(self, facts: Mapping[str, Any]) -> list[str]:
        """Say in what the run of a state with these facts differs from this one."""
        saved = facts.get("arguments")
        saved = saved if isinstance(saved, dict) else {}
        wrong = [
            f"{k} is {v!r} here, {saved.get(k)!r} there"
            for k, v in self.arguments.items()
            if saved.get(k) != v and k not in LENGTHS
        ]
        there = facts.get("made")
        if not self.made or not isinstance(there, dict) or not there:  # format 1
            return wrong
        for k in sorted(self.made.keys() | there.keys()):
            mine, other = _unplaced(self.made.get(k)), _unplaced(there.get(k))
            # What layers below make of the data may differ in its last bits.
            if mine != other and not (k.startswith("x") and "layer" in facts):
                of_data = k.startswith("x")
                what = "another" if of_data else f"{mine!r} here, {other!r} there"
                wrong.append(f"{k} is {what}")
        return wrong

    def diagnosis(
        self,
        error: _NotFinite,
        good: State | None,
        steps: range,
        take: Callable[[int, Any], Array],
        model: Any,
        name: Callable[[int], str],
    ) -> FloatingPointError:
        """Find what made numbers that are not finite, and go back to before it.

        Args:
            error: what was noticed.
            good: the last snapshot.
            steps: those since then, to be taken again.
            take: takes step i of a model and returns its loss.
            model: what is trained.
            name: says in words which step i is.

        Returns:
            The error to raise. The run is as it was before the step that it names; or
            as it is, where there is no snapshot.

        """
        hint = "a smaller learning rate may help"
        if good is None:
            return FloatingPointError(f"{self.owner}: {error}; {hint}")
        self.restore(good)
        with np.errstate(all="ignore"):
            for i in steps:
                before = self._snapshot(i)
                loss = backend.asarray(take(i, model))
                try:
                    self.check(**{"the loss": loss})
                except _NotFinite as bad:
                    self.restore(before)
                    made = _watch(take, i, model)
                    self.restore(before)
                    return FloatingPointError(
                        f"{self.owner}: {bad} in {name(i)}; {hint}. The model is as it "
                        f"was before that step. {made}"
                    )
        self.restore(good)
        return FloatingPointError(
            f"{self.owner}: {error}; {hint}. It did not happen again; the model is as "
            f"it was before {name(steps[0])}"
        )

    def _checked_parts(self) -> list[tuple[str, Any]]:
        for name, part in self.parts.items():
            if not hasattr(part, "load_state_dict"):
                raise TypeError(
                    f"{self.owner}: checkpoints need the {name}'s state_dict and "
                    f"load_state_dict; {type(part).__name__} has none"
                )
        return list(self.parts.items())


def _unplaced(fact: Any) -> Any:
    """Return a fact without the modules of scratchnet in it: code may move."""
    if not isinstance(fact, str):
        return fact
    return re.sub(r"\bscratchnet(\.[a-z_0-9]+)+\.", "", fact)


Source = np.random.Generator | Stream


def _streams(**sources: Source | None) -> dict[str, Stream]:
    """Return those that draw on a device, as parts of a run."""
    return {f"{k}_stream": s for k, s in sources.items() if isinstance(s, Stream)}


def _begin(*sources: Source | None) -> None:
    """Have the streams among these go on to the next step."""
    for source in sources:
        if isinstance(source, Stream):
            source.begin()


def _noise_of(model: Any, noise: Source | None) -> Callable[..., Batch]:
    """Return what makes the arguments of `step` or `loss` of a minibatch."""

    def draw(*batch: Array) -> Batch:
        if noise is None:
            return batch
        _begin(noise)
        made: Batch = model.with_noise(*batch, rng=noise)
        return made

    return draw


@contextlib.contextmanager
def _trained_by(group: distributed.Group | None, model: Any) -> Iterator[None]:
    """Have the model's steps sum over the processes of a group."""
    if group is None:
        yield
        return
    model.group = group
    try:
        yield
    finally:
        model.group = None


def _recordable(model: Any) -> bool:
    """Say whether a step does the same to the same arrays, and gains by a recording."""
    return getattr(model, "recordable", False) and not backend.on_host()


def _step(model: Any, batch: Batch, optimizer: Optimizer | None) -> Array:
    """Train on one minibatch; return its loss, still on the device."""
    if optimizer is None:
        return model.step(*batch)
    return _descend(optimizer, model.loss(*batch))


def _descend(optimizer: Optimizer, loss: Any) -> Array:
    """Take one step down a recorded loss; return its value, still on the device."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()
    return loss.data


def _watch(take: Callable[[int, Any], Any], i: int, model: Any) -> str:
    """Take step i, and say which operation first made a number that is not finite."""
    if getattr(model, "group", None) is not None:
        return "One process alone finds out which operation made it."
    by_hand = hasattr(model, "step") or hasattr(model, "discriminator_step")
    try:
        with detect_anomaly():
            take(i, watched(model) if by_hand else model)
    except FloatingPointError as error:
        return f"First not finite:\n  {error}"
    except Exception as error:  # of a model that cannot be watched
        return f"(No operation was found: {error!r})"
    return "No single operation made it."


def _validate(
    model: Any,
    data: Batch,
    batch_size: int,
    draw: Callable[..., Batch],
    group: distributed.Group | None = None,
) -> float:
    """Return the mean loss of the data; nothing is recorded or trained.

    The minibatches are dealt out to the processes of a group, one after another.
    """
    n = len(data[0])
    total = backend.zeros((), np.float64)
    with inference():
        for i, start in enumerate(range(0, n, batch_size)):
            batch = draw(*[a[start : start + batch_size] for a in data])
            if group is None or i % group.size == group.rank:
                total += plain(model.loss(*batch)) * len(batch[0])
    if group is not None:
        group.add(total)
    return float(backend.to_numpy(total)) / n


def _check(
    model: Any,
    data: Batch,
    optimizer: Optimizer | None,
    noise: np.random.Generator | None,
    validation: Batch | None,
) -> None:
    """Raise an error for whatever would go wrong later, or quietly."""
    name = type(model).__name__
    by_hand = hasattr(model, "step")
    if not by_hand and not hasattr(model, "loss"):
        hint = "; a GAN is trained by fit_gan" * hasattr(model, "generate")
        raise TypeError(f"fit: a {name} has neither loss nor step{hint}")
    if by_hand and optimizer is not None:
        raise TypeError(
            f"fit: {name} steps by itself; give the optimizer to its constructor"
        )
    if not by_hand and not isinstance(optimizer, Optimizer):
        missing = "missing" if optimizer is None else f"{optimizer!r}"
        raise TypeError(
            f"fit: optimizer is {missing}; one expected, like "
            "optim.Adam(model.parameters())"
        )
    if hasattr(model, "with_noise") and noise is None:
        raise TypeError(
            f"fit: {name} wants noise; pass noise=np.random.default_rng(...), another "
            "generator than the one that shuffles"
        )
    if noise is not None:
        checks.rng("fit: noise", noise)
        if not hasattr(model, "with_noise"):
            raise TypeError(f"fit: {name} has no use for noise")
    _check_data("fit", model, "x", data)
    if validation is not None:
        if len(validation) != len(data):
            raise ValueError(
                f"fit: validation is {len(validation)} arrays, x is {len(data)}; as "
                "many expected"
            )
        _check_data("fit", model, "validation", validation)


def _check_callback(owner: str, callback: Any) -> None:
    if callback is not None:
        checks.function(owner, "callback", callback, "print")


def _check_batch_size(owner: str, model: Any, batch_size: int, n: int) -> None:
    if batch_size > n:
        raise ValueError(f"{owner}: batch_size is {batch_size}, and x has {n} rows")
    most = getattr(model, "batch_size", batch_size)
    if batch_size > most:
        raise ValueError(
            f"{owner}: batch_size is {batch_size}, and {type(model).__name__} was made "
            f"for batch_size={most}"
        )


def _uploaded(owner: str, name: str, data: Any) -> Batch:
    """Return data, an array or a tuple of them, as arrays of the backend."""
    data = data if isinstance(data, tuple) else (data,)
    for i, a in enumerate(data):
        if not backend.is_array(a):
            raise TypeError(
                f"{owner}: {_label(name, i, data)} is a {type(a).__name__}, an array "
                "expected"
            )
        checks.plain_array(owner, _label(name, i, data), a)
    return tuple(map(backend.asarray, data))


def _label(name: str, i: int, data: Batch) -> str:
    return f"{name}[{i}]" if len(data) > 1 else name


def _check_data(owner: str, model: Any, name: str, data: Batch) -> None:
    if not data:
        raise ValueError(f"{owner}: {name} is an empty tuple")
    for i, a in enumerate(data):
        label = _label(name, i, data)
        if (i == 0 and a.ndim != 2) or a.ndim == 0 or a.size == 0:
            raise ValueError(
                f"{owner}: {label} has shape {a.shape}; (n, d), a row for each sample, "
                "expected"
            )
        if len(a) != len(data[0]):
            raise ValueError(
                f"{owner}: {label} has {len(a)} rows, {name}[0] has {len(data[0])}"
            )
        if i == 0 and a.dtype.kind != "f":
            raise TypeError(
                f"{owner}: {label} is {a.dtype}, floats expected; for pixels pass "
                f"{label}.astype(np.float32) / 255"
            )
        axes = tuple(range(1, a.ndim))
        finite = backend.to_numpy(np.isfinite(a).all(axis=axes))
        if not finite.all():
            raise ValueError(
                f"{owner}: {label} has values that are not finite, in "
                f"{np.sum(~finite)} of {len(a)} rows, row {np.argmin(finite)} first"
            )
    if hasattr(model, "check"):
        try:
            signature(model.check).bind(*data)
        except TypeError:
            raise TypeError(
                f"{owner}: {name} is {len(data)} array{'s' * (len(data) > 1)}; "
                f"{type(model).__name__} is trained on "
                + ", ".join(signature(model.check).parameters)
            ) from None
        model.check(*data)


# --- Stacks -------------------------------------------------------------------------


def pretrain(
    stack: Any,
    x: Array,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    optimizer: Callable[[list[Tensor]], Optimizer] | None = None,
    progress: bool = True,
    checkpoints: Save | None = None,
    resume: State | None = None,
    group: distributed.Group | None = None,
) -> list[History]:
    """Train a stacked autoencoder greedily, one layer after another, from the data up.

    Each layer is an autoencoder for the codes of the layers below, which stay as they
    are (Bengio et al. 2007). `fit` then trains the whole stack from there.

    Args:
        stack: a StackedAutoencoder, with the engine or by hand.
        x: the samples (n, d).
        epochs: how many times each layer visits all samples.
        batch_size: samples in a minibatch.
        rng: shuffles.
        optimizer: for the engine, makes a layer's optimiser of its parameters, like
            `optim.Adam`.
        progress: show progress bars, if stderr is a terminal.
        checkpoints, resume, group: as for `fit`.

    Returns:
        A History for each layer.

    Raises:
        As `fit`; what the layers below the failing one have learned is kept.

    """
    name = type(stack).__name__
    if not hasattr(stack, "layer"):
        raise TypeError(
            f"pretrain: {name} has no layers to train one by one; pass a "
            "StackedAutoencoder"
        )
    if hasattr(stack, "step"):
        if optimizer is not None:
            raise TypeError(
                f"pretrain: {name} steps by itself; give the optimizer to its "
                "constructor"
            )
    elif not callable(optimizer):
        raise TypeError(
            "pretrain: optimizer is missing; pass what makes one of a layer's "
            "parameters, like optim.Adam"
        )
    histories: list[History] = []
    first = 1
    (h,) = _uploaded("pretrain", "x", (x,))
    if group is not None:
        distributed.check("pretrain", group, stack)
        n = group.total(len(h))
        resume = group.from_first(resume)
        place = _Place("pretrain", {"model": stack, "optimizer": stack.optimizer},
                       {"rng": rng}, None, rows=n, batch_size=batch_size,
                       epochs=epochs)  # fmt: skip
        group.agree("pretrain", {
            **place.everything(),
            **distributed.facts_of("x", (h,), group.sharded),
            "checkpoints": checkpoints is not None,
        })  # fmt: skip
    # A mark tells the data from others; a shard is not what the state's writer had.
    sharded = group is not None and group.sharded
    kept = checkpoints is not None or resume is not None
    mark = digest(h) if kept and not sharded else ""
    if resume is not None:
        if "layer" not in resume.facts:
            raise ValueError("pretrain: resume: the state is not of a pretraining")
        first = resume.facts["layer"]
        if mark and resume.facts.get("x", mark) not in ("", mark):
            raise ValueError(
                "pretrain: resume: the state is of another run: x is another"
            )
        try:
            histories = [History(**made) for made in resume.facts["layers"]]
            if not len(histories) == first - 1 < len(stack.sizes) - 1:
                raise ValueError(f"layer {first}, and {len(histories)} before it")
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"pretrain: resume: the state is damaged ({error})"
            ) from error
        stack.load_state_dict(_part("stack", resume.arrays))
    for k in range(1, len(stack.sizes)):
        layer = stack.layer(k)
        if k >= first:
            save = checkpoints and adding(
                checkpoints,
                {f"stack.{name}": a for name, a in stack.state_dict().items()},
                layer=k,
                x=mark,
                layers=[asdict(made) for made in histories],
            )
            histories.append(
                fit(
                    layer, h, epochs=epochs, batch_size=batch_size, rng=rng,
                    optimizer=None if optimizer is None
                    else optimizer(layer.parameters()),
                    progress=progress, checkpoints=save,
                    resume=resume if k == first else None, group=group,
                )
            )  # fmt: skip
            stack.set_layer(k, layer)
        h = layer.encode(h)
    return histories


# --- The game -----------------------------------------------------------------------


@dataclass
class GANHistory:
    """What a game was like, one entry for each time that it was looked at.

    Attributes:
        steps: how many steps the generator had taken.
        v: V(D, G) on a minibatch.
        real: mean D(x) there, the probability given to real samples of being real.
        generated: mean D(G(z)) there, that given to generated ones.

    """

    steps: list[int] = field(default_factory=list)
    v: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    generated: list[float] = field(default_factory=list)


def fit_gan(
    gan: Any,
    x: Array,
    *,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
    noise: np.random.Generator,
    discriminator_steps: int = 1,
    optimizers: tuple[Optimizer, Optimizer] | None = None,
    average: Any = None,
    every: int = 100,
    progress: bool = True,
    callback: Callable[[GANHistory], None] | None = None,
    checkpoints: Save | None = None,
    resume: State | None = None,
) -> GANHistory:
    """Play the game of a GAN on the samples x (Goodfellow et al. 2014, Algorithm 1).

    Args:
        gan: a GAN, with the engine or by hand.
        x: real samples (n, d).
        steps: of the generator.
        batch_size: real samples, and rows of noise, in each step.
        rng: chooses the real samples, each time anew.
        noise: draws z. On a GPU both only give keys to streams there, and a step by
            hand is recorded and replayed, as for `fit`.
        discriminator_steps: of the discriminator before each step of the generator.
        optimizers: for the engine, of the generator and of the discriminator.
        average: an `EMA` of the generator's parameters, updated after its steps.
        every: how often to note V, D(x) and D(G(z)), in steps of the generator.
        progress: show a progress bar, if stderr is a terminal.
        callback: called with the history each time that it has grown.
        checkpoints, resume: as for `fit`.

    Raises:
        TypeError, ValueError: an argument is not what is said above, or `resume` is of
            a game with other arguments; nothing was trained then.
        FloatingPointError: V is not finite any more, as for `fit`; looked at when it
            is noted.
        Stopped, OSError: from `checkpoints`.

    """
    _check_callback("fit_gan", callback)
    if average is not None and not hasattr(average, "update"):
        raise TypeError(f"fit_gan: average is {average!r}; an EMA expected")
    for name, count in [("steps", steps), ("batch_size", batch_size), ("every", every),
                        ("discriminator_steps", discriminator_steps)]:  # fmt: skip
        checks.count("fit_gan", name, count)
    checks.rng("fit_gan", rng)
    checks.rng("fit_gan: noise", noise)
    _sides(gan, optimizers)  # both are there, or an error
    (x,) = _uploaded("fit_gan", "x", (x,))
    _check_data("fit_gan", gan, "x", (x,))
    _check_batch_size("fit_gan", gan, batch_size, len(x))
    checks.packs(batch_size, gan.packing)
    from tqdm import tqdm

    chosen, drawn = stream_for(rng), stream_for(noise)

    def real() -> Array:
        return x[backend.asarray(chosen.integers(len(x), size=batch_size))]

    def z() -> Array:
        shape = (batch_size, gan.generator_sizes[0])
        return backend.asarray(drawn.standard_normal(shape, gan.dtype.type))

    def move_d(gan: Any) -> Array:
        """Take one step of the discriminator; return its loss."""
        _begin(chosen, drawn)
        step, _ = _sides(gan, optimizers)
        return step(real(), z())

    def move_g(gan: Any) -> Array:
        """Take one step of the generator; return its loss."""
        _begin(chosen, drawn)
        _, step = _sides(gan, optimizers)
        loss = step(z(), real() if gan.paired else None)
        if average is not None:
            average.update()
        return loss

    moves = [move_d] * discriminator_steps + [move_g]

    def take(step: int, gan: Any) -> Array:
        """Take one step of the generator, and those of the discriminator before it."""
        losses = backend.zeros((), gan.dtype)
        for move in moves:
            losses += move(gan)
        return losses

    history = GANHistory()
    of_g, of_d = optimizers or (
        getattr(gan, of, None) for of in ("optimizer", "discriminator_optimizer")
    )
    parts = {"model": gan, "optimizer": of_g, "discriminator_optimizer": of_d}
    if average is not None:
        parts["average"] = average
    parts |= _streams(rng=chosen, noise=drawn)
    replays = {}
    if _recordable(gan):
        replays = {move: backend.capture(partial(move, gan)) for move in set(moves)}
    place = _Place(
        "fit_gan", parts, {"rng": rng, "noise": noise}, history, rows=len(x),
        steps=steps, batch_size=batch_size, discriminator_steps=discriminator_steps,
        every=every, average=average is not None,
    )  # fmt: skip
    done = 0
    if checkpoints is not None or resume is not None:
        place.describe((x,))
    if resume is not None:
        place.restore(resume)
        done = resume.facts["step"]
        if callback is not None and history.steps[-1:] == [done]:
            callback(history)  # it was to come after the state was saved
    good, since = place.snapshot(done), done + 1
    for step in tqdm(
        range(done + 1, steps + 1), initial=done, total=steps, unit="step",
        disable=_no_bar(progress),
    ):  # fmt: skip
        noted = step % every == 0 or step == steps
        try:
            if replays:
                for move in moves:
                    replays[move]()
            else:
                take(step, gan)
            if noted:
                _begin(chosen, drawn)
                _note(history, step, gan.logits(real()), gan.logits(gan.generate(z())))
            if checkpoints is not None:
                checkpoints(partial(place.state, step))
        except _NotFinite as error:
            again = range(since, step + 1)
            raise place.diagnosis(
                error, good, again, take, gan, lambda step: f"step {step} of {steps}"
            ) from None
        if noted:
            good, since = place.snapshot(step), step + 1
            if callback is not None:
                callback(history)
    save_last(checkpoints, partial(place.state, steps))
    return history


def _sides(
    gan: Any, optimizers: tuple[Optimizer, Optimizer] | None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the step of the discriminator and that of the generator."""
    if hasattr(gan, "discriminator_step"):
        if optimizers is not None:
            raise TypeError(
                "fit_gan: this GAN steps by itself; give the optimizers to its "
                "constructor"
            )
        return gan.discriminator_step, gan.generator_step
    if not isinstance(optimizers, tuple) or len(optimizers) != 2:
        raise TypeError(
            "fit_gan: two optimizers expected, like (Adam(gan.generator.parameters()), "
            "Adam(gan.discriminator.parameters()))"
        )
    g, d = optimizers
    return (
        lambda x, z: _descend(d, gan.discriminator_loss(x, z)),
        lambda z, x: _descend(g, gan.generator_loss(z, x)),
    )


def _note(history: GANHistory, step: int, a_r: Array, a_f: Array) -> None:
    """Note V, D(x) and D(G(z)), of the logits a_r of real and a_f of generated."""
    a_r, a_f = (backend.to_numpy(a).astype(np.float64) for a in (a_r, a_f))
    log_real, log_fake = -np.logaddexp(0, -a_r), -np.logaddexp(0, -a_f)
    v = float(log_real.mean() - np.logaddexp(0, a_f).mean())
    if not np.isfinite(v):
        raise _NotFinite(f"V became {v} by step {step}")
    history.steps.append(step)
    history.v.append(v)
    history.real.append(float(np.exp(log_real).mean()))
    history.generated.append(float(np.exp(log_fake).mean()))
