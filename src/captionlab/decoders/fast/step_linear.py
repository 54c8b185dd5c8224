"""Linear maps inside a loop over time, whose weights get their gradient in one product.

The plain reference is `torch.nn.functional.linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from captionlab.decoders.fast.few_shapes import in_few_shapes

_Gathered = TypeVar("_Gathered")
_Tape = dict[Tensor, tuple[Tensor, Any]]
_tape: ContextVar[_Tape | None] = ContextVar("tape", default=None)


@contextmanager
def one_gradient_per_weight() -> Iterator[None]:
    """Within, `step_linear` sums a weight's gradient over all its uses by one matrix product.

    Autograd would compute one small product and one addition to the full gradient per step.
    """
    if torch.compiler.is_compiling():  # sees the whole loop itself
        yield
        return
    token = _tape.set({})
    try:
        yield
    finally:
        _tape.reset(token)


def on_tape(key: Tensor, make: Callable[[], tuple[Tensor, _Gathered]]) -> tuple[Tensor, _Gathered]:
    """An anchor and what its backward reads, created at the first use of `key` within a loop."""
    tape = _tape.get()
    if tape is None:
        return make()
    if key not in tape:
        tape[key] = make()
    return tape[key]


def step_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`inputs` (..., I) times `weight` (O, I), plus `bias` (O,): as `functional.linear`."""
    if _tape.get() is None or not torch.is_grad_enabled():
        return functional.linear(inputs, weight, bias)
    anchor, shared = on_tape(weight, lambda: _anchored(weight, bias))
    outputs: Tensor = _Use.apply(inputs.flatten(0, -2), anchor, shared)  # 2-D: no copies of weights
    return outputs.view(*inputs.shape[:-1], -1)


@dataclass
class _Shared:
    """What all uses of a weight have in common.

    Attributes:
        weight: (O, I), without gradient, in autocast's dtype: it is cast once for all steps.
        bias: likewise.
        steps: each use's input (R, I) and output gradient (R, O).
    """

    weight: Tensor
    bias: Tensor | None
    steps: list[tuple[Tensor, Tensor]] = field(default_factory=list)


def _anchored(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, _Shared]:
    device, dtype = weight.device.type, weight.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    cast = [None if part is None else part.detach().to(dtype) for part in (weight, bias)]
    assert cast[0] is not None
    shared = _Shared(cast[0], cast[1])
    return _Gradient.apply(weight, bias, shared), shared


class _Gradient(torch.autograd.Function):
    """Gives an anchor; its backward runs after that of every use, and computes the gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, shared: _Shared) -> Tensor:
        ctx.steps, ctx.dtype, ctx.has_bias = shared.steps, weight.dtype, bias is not None
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, anchor_grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        inputs = in_few_shapes(torch.cat([inputs for inputs, _ in ctx.steps]))
        grads = in_few_shapes(torch.cat([grad for _, grad in ctx.steps]))
        ctx.steps.clear()
        bias_grad = grads.sum(0).to(ctx.dtype) if ctx.has_bias else None
        return (grads.t() @ inputs).to(ctx.dtype), bias_grad, None


class _Use(torch.autograd.Function):
    """One use; its backward leaves input and output gradient for `_Gradient`."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, anchor: Tensor, shared: _Shared) -> Tensor:
        inputs = inputs.to(shared.weight.dtype)
        ctx.save_for_backward(inputs, shared.weight)
        ctx.steps = shared.steps
        return functional.linear(inputs, shared.weight, shared.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs, weight = ctx.saved_tensors
        ctx.steps.append((inputs, grad))
        return grad @ weight, grad.new_zeros(()), None
