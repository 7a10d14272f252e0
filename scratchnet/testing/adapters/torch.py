"""PyTorch: functions of torch tensors, `Function.apply`, modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from scratchnet.testing.adapters import trees
from scratchnet.testing.adapters.foreign import Foreign
from scratchnet.testing.problems import Array, argument_names


class TorchFunction(Foreign):
    """A function of tensors, with the gradient of `torch.autograd.grad`.

    Tensors that require a gradient are differentiated, as torch's own gradcheck does;
    if none does, all floating ones. They are copied, on their device and with their
    strides: f may write into its arguments, and they may share memory.
    """

    convention = "dL/da + i dL/db for z = a + ib (torch)"
    state: Sequence[int] = ()  # leaves that nobody differentiates: a module's buffers

    def __init__(
        self, f: Callable[..., Any], arguments: Sequence[Any], names: Sequence[str]
    ) -> None:
        self.f = f
        self.arguments = list(arguments)
        found = [
            pair
            for name, argument in zip(names, arguments, strict=True)
            for pair in trees.named_leaves(argument, name)
        ]
        self.leaves = [leaf for _, leaf in found]
        floating = [i for i, leaf in enumerate(self.leaves) if _is_floating(leaf)]
        asked = [i for i in floating if self.leaves[i].requires_grad]
        self.places = asked or floating
        left = [found[i][0] for i in floating if i not in (*self.places, *self.state)]
        if left:
            names = ", ".join(left)
            self.notes = [f"not checked, since requires_grad is False: {names}"]
        self.names = [found[i][0] for i in self.places]
        self.arrays = [_to_numpy(self.leaves[i]) for i in self.places]
        self.kept: list[int] = []
        if self.arrays:
            outputs = self._outputs(self._variables(self.arrays))
            # As in torch's gradcheck; if no output has a gradient, that is a mistake.
            with_gradient = [i for i, (_, y) in enumerate(outputs) if y.requires_grad]
            self.kept = with_gradient or list(range(len(outputs)))

    def value(self, arrays: list[Array]) -> list[tuple[str, Array]]:
        """Return the outputs that have a gradient."""
        outputs = self._outputs(self._variables(arrays))
        return [(outputs[i][0], _to_numpy(outputs[i][1])) for i in self.kept]

    def vjp(self, arrays: list[Array], cotangents: list[Array]) -> list[Array | None]:
        """Return the gradients of torch.autograd."""
        variables = self._variables(arrays)
        outputs = self._outputs(variables)
        kept = [outputs[i][1] for i in self.kept]
        given = [_like(y, c).to(y.dtype) for y, c in zip(kept, cotangents, strict=True)]
        gradients = _grad(kept, variables, given)
        return [None if g is None else _to_numpy(g) for g in gradients]

    def jvp(self, arrays: list[Array], tangents: list[Array]) -> list[Array]:
        """Return the derivatives of torch.autograd.forward_ad."""
        with forward_ad.dual_level():
            pairs = zip(self._variables(arrays), self._variables(tangents), strict=True)
            duals = [forward_ad.make_dual(x.detach(), v.detach()) for x, v in pairs]
            outputs = self._outputs(duals)
            kept = [outputs[i][1] for i in self.kept]
            found = [(y, forward_ad.unpack_dual(y).tangent) for y in kept]
            tangents_of = [torch.zeros_like(y) if v is None else v for y, v in found]
            return [_to_numpy(v) for v in tangents_of]

    def gradient_as_function(self, cotangents: list[Array]) -> Foreign:
        """Return the gradients as a function, recorded by torch (create_graph)."""
        variables = self._variables(self.arrays)
        found = self._outputs(variables)
        outputs = [found[i][1] for i in self.kept]
        given = [
            _like(y, c).to(y.dtype) for y, c in zip(outputs, cotangents, strict=True)
        ]

        def gradients(variables: list[Any], given: list[Any]) -> list[Any]:
            outputs = self._outputs(variables)
            kept = [outputs[i][1] for i in self.kept]
            found = _grad(kept, variables, given, create_graph=True)
            pairs = zip(found, variables, strict=True)
            return [torch.zeros_like(x) if g is None else g for g, x in pairs]

        inputs = [
            [x.detach().requires_grad_() for x in part] for part in (variables, given)
        ]
        return TorchFunction(gradients, inputs, ["", ""])

    def _variables(self, arrays: list[Array]) -> list[Any]:
        """Return new tensors with the values of `arrays`, that require gradients."""
        pairs = zip(self.places, arrays, strict=True)
        return [_like(self.leaves[i], a).requires_grad_() for i, a in pairs]

    def _outputs(self, variables: list[Any]) -> list[tuple[str, Any]]:
        """Call f; return its floating outputs, each with its name."""
        real = max((x.dtype.to_real() for x in variables), key=lambda d: d.itemsize)
        leaves = [_constant(leaf, real) for leaf in self.leaves]
        pairs = zip(self.places, variables, strict=True)
        if any(x.is_complex() and not self.leaves[i].is_complex() for i, x in pairs):
            # A complex step: most operations refuse real and complex numbers together.
            leaves = [y + 0j if _is_floating(y) else y for y in leaves]
        for i, x in zip(self.places, variables, strict=True):
            leaves[i] = x.clone()  # f may write into it
        returned = self.f(*trees.rebuild(self.arguments, iter(leaves)))
        outputs = trees.named_leaves(returned, "f")
        return [(name, y) for name, y in outputs if _is_floating(y)]


class Module(TorchFunction):
    """A module with its inputs: its parameters are differentiated too."""

    def __init__(self, module: torch.nn.Module, inputs: Sequence[Any]) -> None:
        self.module = module
        names = argument_names(module.forward, len(inputs))
        parameters = dict(module.named_parameters())
        buffers = dict(module.named_buffers())
        self.state = range(len(parameters), len(parameters) + len(buffers))
        super().__init__(self._call, [parameters, buffers, *inputs], ["", "", *names])

    def _call(
        self, parameters: dict[str, Any], buffers: dict[str, Any], *inputs: Any
    ) -> Any:
        return torch.func.functional_call(
            self.module, {**parameters, **buffers}, inputs
        )

    def randomness(self) -> str:
        """Return, in words, which layers are random."""
        random = [
            name or type(layer).__name__
            for name, layer in self.module.named_modules()
            if "Dropout" in type(layer).__name__ and layer.training
        ]
        named = ", ".join(random)
        return f"dropout is active in {named}: call .eval() first" if random else ""


def adapter(f: Any, inputs: list[Any]) -> Foreign:
    """Return the adapter of a function, a Function, its `apply`, or a module."""
    if isinstance(f, torch.nn.Module):
        return Module(f, inputs)
    owner: Any = f if isinstance(f, type) else getattr(f, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        function: Any = owner
        f = function.apply
        takes_ctx = function.setup_context is torch.autograd.Function.setup_context
        names = argument_names(function.forward, len(inputs) + takes_ctx)[takes_ctx:]
    else:
        names = trees.argument_paths(f, inputs)
    return TorchFunction(f, inputs, names)


def _is_floating(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def _to_numpy(x: Any) -> Array:
    """Return a copy; NumPy has no bfloat16."""
    x = x.detach().resolve_conj().resolve_neg()
    x = x.to_dense() if x.layout != torch.strided else x
    x = x.float() if x.dtype == torch.bfloat16 else x
    return np.array(x.cpu().numpy())


def _like(x: Any, a: Array) -> Any:
    """Return a new tensor with the values of `a`, where x is and with its strides."""
    values = torch.from_numpy(np.ascontiguousarray(a).reshape(a.shape))
    dtype = values.dtype
    if x.layout != torch.strided:
        return values.to(x.device).to_sparse(layout=x.layout)
    return torch.empty_like(x, dtype=dtype, requires_grad=False).copy_(values)


def _constant(x: Any, real: torch.dtype) -> Any:
    """Return a copy of a constant, in the precision of the variables."""
    if not isinstance(x, torch.Tensor):
        return x
    x = x.detach()
    if not _is_floating(x):
        return x.clone()
    return x.to(real.to_complex() if x.is_complex() else real, copy=True)


def _grad(
    outputs: list[Any], variables: list[Any], given: list[Any], **options: bool
) -> Sequence[Any]:
    """Return torch.autograd.grad; None where no gradient arrives."""
    pairs = [(y, g) for y, g in zip(outputs, given, strict=True) if y.requires_grad]
    if not pairs:
        return [None] * len(variables)
    ys, gs = zip(*pairs, strict=True)
    found: Sequence[Any] = torch.autograd.grad(
        ys, variables, gs, allow_unused=True, **options
    )
    return found
