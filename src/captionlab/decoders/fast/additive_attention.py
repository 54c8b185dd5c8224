"""Additive attention whose keys and values are the same at every step of a caption."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from captionlab.decoders.fast.step_linear import on_tape


def plain_additive_attention(
    keys: Tensor, values: Tensor, query: Tensor, energy_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference: as `additive_attention`, but of the keys themselves.

    Source:
        Xu et al. 2015, eq. 4-6, with the comparison of Bahdanau et al. 2015.
    """
    compared = torch.tanh(keys.unsqueeze(1) + query.unsqueeze(2))  # (B, K, P, A)
    weights = (compared @ energy_weight).softmax(-1)  # (B, K, P)
    return weights @ values, weights


def exponential(compared: Tensor) -> Tensor:
    """What `additive_attention` compares: exp(2 x), in float32 at least, x kept in [-40, 40].

    With it tanh(k + q) is 1 - 2 / (1 + exp(2 k) exp(2 q)): a map's exponentials are computed once,
    and the 1 cancels in the softmax.
    """
    exponentials: Tensor = _Exponential.apply(compared)
    return exponentials


def additive_attention(
    keys: Tensor, values: Tensor, query: Tensor, energy_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean of the values, weighted by the softmax of w . tanh(key + query).

    Whatever autocast says, comparisons are made in the dtype of the keys. Within
    `one_gradient_per_weight` the gradients of keys, values and w are computed once for all steps.

    Args:
        keys: `exponential` of the keys, (B', P, A).
        values: (B', P, D), of any floating dtype.
        query: as keys compare with it, before `exponential`, (B, K, A); of the first B <= B'
            images.
        energy_weight: w, (A,).

    Returns:
        The context (B, K, D), of the dtype of the values, and the weights (B, K, P), which sum to
        one over positions.
    """
    with torch.autocast(keys.device.type, enabled=False):
        query, energy_weight = exponential(query), energy_weight.to(keys.dtype)
        if keys.device.type != "cpu" or torch.compiler.is_compiling():
            # Large tensors suit a GPU, and a compiler makes blocks of its own.
            return _at_once(keys[: len(query)], values[: len(query)], query, energy_weight)
        fixed = (keys, values, energy_weight)
        if not torch.is_grad_enabled():
            return _forward(*fixed, query)
        anchor, gathered = on_tape(keys, lambda: _anchored(*fixed))
        attended: tuple[Tensor, Tensor] = _Use.apply(
            *(tensor.detach() for tensor in fixed), query, anchor, gathered
        )
        return attended


class _Exponential(torch.autograd.Function):
    """In one tensor, where autograd's own chain writes the map six times over."""

    @staticmethod
    def forward(ctx: Any, compared: Tensor) -> Tensor:
        dtype = torch.promote_types(compared.dtype, torch.float32)
        exponentials = compared.to(dtype).mul(2).clamp_(-80, 80).exp_()
        ctx.save_for_backward(exponentials)
        ctx.dtype = compared.dtype
        return exponentials

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (exponentials,) = ctx.saved_tensors
        return (grad * exponentials).mul_(2).to(ctx.dtype)  # type: ignore[no-any-return]


def _at_once(
    keys: Tensor, values: Tensor, query: Tensor, energy_weight: Tensor
) -> tuple[Tensor, Tensor]:
    compared = (1 + keys.unsqueeze(1) * query.unsqueeze(2)).reciprocal()  # (B, K, P, A)
    weights = (compared @ (-2 * energy_weight)).softmax(-1)
    return torch.bmm(weights.to(values.dtype), values), weights


def _forward(
    keys: Tensor, values: Tensor, energy_weight: Tensor, query: Tensor
) -> tuple[Tensor, Tensor]:
    """As `_at_once`, without the comparisons in memory."""
    from captionlab.decoders.fast.comparisons import energies  # Numba: not needed on a GPU

    weights = energies(keys, query, -2 * energy_weight).softmax(-1)
    return torch.bmm(weights.to(values.dtype), values[: len(query)]), weights


@dataclass
class _Gathered:
    """What the backward passes of all uses leave for that of `_Gradient`."""

    # Over steps, of the energies' gradients times the comparisons' slopes, (B', P, A), and times
    # the comparisons, (A,).
    sums: tuple[Tensor, Tensor] | None = None
    steps: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # weights, context's gradient


def _anchored(keys: Tensor, values: Tensor, energy_weight: Tensor) -> tuple[Tensor, _Gathered]:
    gathered = _Gathered()
    return _Gradient.apply(keys, values, energy_weight, gathered), gathered


class _Gradient(torch.autograd.Function):
    """Gives an anchor; its backward runs after that of every use, and computes the gradients."""

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, values: Tensor, energy_weight: Tensor, gathered: _Gathered
    ) -> Tensor:
        ctx.save_for_backward(keys, energy_weight)
        ctx.gathered = gathered
        return keys.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, anchor_grad: Tensor) -> tuple[Tensor | None, ...]:
        keys, energy_weight = ctx.saved_tensors
        gathered: _Gathered = ctx.gathered
        values_grad = None
        if ctx.needs_input_grad[1]:
            weights, context_grads = (
                torch.cat([_for_images(part, len(keys)) for part in parts], dim=1)
                for parts in zip(*gathered.steps, strict=True)
            )
            values_grad = torch.bmm(weights.mT.to(context_grads.dtype), context_grads)
        assert gathered.sums is not None
        keys_grad, energy_weight_grad = gathered.sums
        gathered.sums, gathered.steps = None, []
        return (
            keys_grad.mul_(2 * energy_weight).div_(keys),
            values_grad,
            energy_weight_grad.mul_(-2),
            None,
        )


def _for_images(part: Tensor, num_images: int) -> Tensor:
    """Zeros for the images that are not in a step."""
    return functional.pad(part, (0, 0, 0, 0, 0, num_images - len(part)))


class _Use(torch.autograd.Function):
    """One step; its backward computes the query's gradient and adds to what is gathered."""

    @staticmethod
    def forward(
        ctx: Any,
        keys: Tensor,
        values: Tensor,
        energy_weight: Tensor,
        query: Tensor,
        anchor: Tensor,
        gathered: _Gathered,
    ) -> tuple[Tensor, Tensor]:
        context, weights = _forward(keys, values, energy_weight, query)
        ctx.save_for_backward(keys, values, energy_weight, query, weights)
        ctx.gathered = gathered
        return context, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, context_grad: Tensor, weights_grad: Tensor) -> tuple[Tensor | None, ...]:
        from captionlab.decoders.fast.comparisons import add_gradients

        keys, values, energy_weight, query, weights = ctx.saved_tensors
        gathered: _Gathered = ctx.gathered
        if gathered.sums is None:
            gathered.sums = torch.zeros_like(keys), torch.zeros_like(energy_weight)
        keys_sum, energy_weight_sum = gathered.sums
        gathered.steps.append((weights, context_grad))
        weights_grad = weights_grad + torch.bmm(context_grad, values[: len(query)].mT)
        energy_grad = weights * (weights_grad - (weights * weights_grad).sum(-1, keepdim=True))
        query_sum, own_sum = add_gradients(keys, query, energy_grad, keys_sum)
        energy_weight_sum += own_sum
        query_grad = query_sum.mul_(2 * energy_weight).div_(query)
        return None, None, None, query_grad, keys.new_zeros(()), None
