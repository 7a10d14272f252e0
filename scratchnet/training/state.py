"""The state of a run: its parts, and how they are restored."""

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.backend.philox import Stream
from scratchnet.nn import Module
from scratchnet.training.arguments import Batch, label_of
from scratchnet.training.checkpoint import (
    FORMAT,
    Save,
    State,
    generator_state,
    machine,
    set_generator_state,
)
from scratchnet.training.distributed import Group, digest, facts_of
from scratchnet.training.facts import described, generators_of


def part_of(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays with names NAME.something, under the names `something`."""
    begin = f"{name}."
    return {k.removeprefix(begin): a for k, a in arrays.items() if k.startswith(begin)}


@runtime_checkable
class Stateful(Protocol):
    """A part of a run that can be saved and restored."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of its arrays on the host, by name."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all arrays; on an error, set none."""


class NotFinite(Exception):
    """A number in a run is not finite; the message says where."""


def not_finite(arrays: Mapping[str, Array]) -> str | None:
    """Return a message about the first array with a non-finite value, or None."""
    floats = {name: a for name, a in arrays.items() if a.dtype.kind == "f"}
    if not floats:
        return None
    # If all is finite, one transfer from the device is enough.
    fine = backend.to_numpy(np.stack([np.isfinite(a).all() for a in floats.values()]))
    for (name, a), right in zip(floats.items(), fine, strict=True):
        if not right:
            host = backend.to_numpy(a)
            return f"{name} became {host[~np.isfinite(host)][0]}"
    return None


def _shown(part: Stateful) -> dict[str, Array]:
    """Return the arrays of a part, or copies on the host if it gives no others."""
    found: dict[str, Array] = getattr(part, "state_arrays", part.state_dict)()
    return found


# The length of a training; it may differ when a run is resumed.
LENGTHS = ("epochs", "steps")


class RunState:
    """The parts of a run, and how its state is made and restored.

    Args:
        owner: the function to name in errors: "fit", ...
        parts: by name, objects with `state_dict` and `load_state_dict`.
        generators: by name, or None. Generators inside the parts (`Dropout`) are added.
        history: a dataclass of lists.
        **arguments: arguments of the run that must not change when it is resumed.

    """

    def __init__(
        self,
        owner: str,
        parts: Mapping[str, object],
        generators: Mapping[str, np.random.Generator | None],
        history: object,
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
        self.run: dict[str, str] = {}  # the id of the resumed run
        self.made: dict[str, Any] = {}  # facts that `describe` found
        self.arguments = {"run": owner, **arguments, "generators": [*self.generators]}

    def describe(self, data: Batch) -> None:
        """Describe the parts and the data; the description is saved in the states.

        Left out are a model of the user, which may hold values that change between
        runs; the learning rate, which may change when a run is extended; and code,
        which depends on the version of Python.
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
        self.made |= {label_of("x", i, data): digest(a) for i, a in enumerate(data)}

    def after(self, step: int, **arrays: Array) -> State:
        """Return the state after this number of steps, with more arrays of the run.

        Raises:
            NotFinite: a number is not finite, so no run could resume from this state.

        """
        self.check(**arrays)
        found = {name: np.array(backend.to_numpy(a)) for name, a in arrays.items()}
        for name, part in self._checked_parts():
            found |= {f"{name}.{k}": a for k, a in part.state_dict().items()}
        return State(found, self._facts(step))

    def check(self, **arrays: Array) -> None:
        """Raise NotFinite unless the parameters and these arrays are finite."""
        model = self.parts["model"]
        if isinstance(model, Stateful):
            buffers = dict(model.named_buffers()) if isinstance(model, Module) else {}
            # A buffer may be infinite, such as a mask of scores.
            arrays |= {k: a for k, a in _shown(model).items() if k not in buffers}
        if found := not_finite(arrays):
            raise NotFinite(found)

    @property
    def whole(self) -> bool:
        """Whether every part has a state."""
        return all(isinstance(part, Stateful) for part in self.parts.values())

    def snapshot(self, step: int) -> State:
        """Return the state after this number of steps; device arrays stay there."""
        found = {
            f"{name}.{k}": a.copy()
            for name, part in self._checked_parts()
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

    def shared(
        self,
        group: Group | None,
        resume: State | None,
        checkpoints: Save | None,
        **data: Batch,
    ) -> State | None:
        """Compare this run in all processes; return the state of process 0.

        Raises:
            ValueError: the runs differ.

        """
        if group is None:
            return resume
        resume = group.from_first(resume)
        found = self.everything()
        for name, arrays in data.items():
            found |= facts_of(name, arrays, group.sharded and name == "x")
        group.agree(self.owner, {**found, "checkpoints": checkpoints is not None})
        return resume

    def everything(self) -> dict[str, Any]:
        """Return all facts that processes of a group must share."""
        found = described(**self.parts) | self.arguments
        for name, part in self._checked_parts():
            found |= {f"{name}.{k}": a for k, a in part.state_dict().items()}
            if callable(rate := getattr(part, "_rate", None)):
                found[f"{name}.lr of all steps"] = self._rates(rate)
        held = generators_of(**self.parts)
        return found | self.random() | {k: generator_state(g) for k, g in held.items()}

    def _rates(self, rate: Callable[[int], float]) -> np.ndarray:
        """Return the values of a rate function at all steps, at most 10,000 of them."""
        a = self.arguments
        steps = a["epochs"] * -(-a["rows"] // a["batch_size"])
        found = []
        with contextlib.suppress(Exception):  # the step itself will raise the error
            for t in range(0, steps, -(-steps // 10_000)):
                found.append(float(rate(t)))
        return np.array(found)

    def random(self) -> dict[str, Any]:
        """Return the states of the generators, by name."""
        return {k: generator_state(g) for k, g in self.generators.items()}

    def restore(self, state: State, **arrays: Array) -> dict[str, np.ndarray]:
        """Restore a state; if it does not fit, raise ValueError and change nothing.

        Returns:
            The saved arrays with the names of `arrays`.

        """
        facts = state.facts
        self.check_facts(facts)
        for name, a in arrays.items():
            there = state.arrays.get(name)
            if there is None or there.shape != a.shape or there.dtype != a.dtype:
                raise ValueError(
                    f"{self.owner}: resume: the state is from another run: the array "
                    f"{name!r} is missing or differs"
                )
        parts = self._checked_parts()
        streams = {name for name, part in parts if isinstance(part, Stream)}
        saved_parts = {name.partition(".")[0] for name in state.arrays}
        of_generators = {f"{k}_stream" for k in self.generators}
        if of_generators & saved_parts != streams:
            warnings.warn(
                f"{self.owner}: noise was drawn on a device and is now drawn on the "
                "host, or the reverse: the noise differs from here on",
                stacklevel=4,  # the line that called `fit`
            )
            parts = [(name, part) for name, part in parts if name not in streams]
        kept = [(part, part.state_dict()) for _, part in parts]
        generators = self.random()
        try:
            for name, part in parts:
                part.load_state_dict(part_of(name, state.arrays))
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
                    f"{name} was {saved.get(name)} and is now {here}: the last bits "
                    "may differ from those of an uninterrupted run",
                    stacklevel=4,  # the line that called `fit`
                )
        for name, values in facts["history"].items():
            getattr(self.history, name)[:] = values
        if "run" in facts:
            self.run = {"run": facts["run"]}
        return {name: state.arrays[name] for name in arrays}

    def check_facts(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError unless a run can resume from a state with these facts."""
        owner = f"{self.owner}: resume: the state"
        if isinstance(facts.get("format"), int) and facts["format"] > FORMAT:
            raise ValueError(f"{owner} was written by a later version of scratchnet")
        if wrong := self._differences(facts):
            raise ValueError(f"{owner} is from another run: {'; '.join(wrong)}")
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
                f"{owner} is damaged: a fact is missing or has a wrong type"
            )
        unit = "steps" if "steps" in self.arguments else "epochs"
        done = step if unit == "steps" else len(history["losses"]) + (step > 0)
        if done > self.arguments[unit]:
            raise ValueError(
                f"{owner} has begun {done} {unit}, but {unit} is "
                f"{self.arguments[unit]}; pass {done} or more"
            )

    def _differences(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the differences between a saved run and this one, in words."""
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
            # The codes of lower layers may differ in the last bits.
            if mine != other and not (k.startswith("x") and "layer" in facts):
                of_data = k.startswith("x")
                here = f"{k} is {mine!r} here, {other!r} there"
                wrong.append(f"{k} differs" if of_data else here)
        return wrong

    def _checked_parts(self) -> list[tuple[str, Stateful]]:
        found = []
        for name, part in self.parts.items():
            if not isinstance(part, Stateful):
                raise TypeError(
                    f"{self.owner}: checkpoints need state_dict and load_state_dict of "
                    f"the {name}; {type(part).__name__} lacks one of them"
                )
            found.append((name, part))
        return found


def _unplaced(fact: object) -> object:
    """Return a fact without scratchnet's module names, because code may move."""
    if not isinstance(fact, str):
        return fact
    return re.sub(r"\bscratchnet(\.[a-z_0-9]+)+\.", "", fact)


Source = np.random.Generator | Stream


def streams(**sources: Source | None) -> dict[str, Stream]:
    """Return the sources that draw on a device, as parts of a run."""
    return {f"{k}_stream": s for k, s in sources.items() if isinstance(s, Stream)}
