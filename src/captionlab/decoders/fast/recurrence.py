"""Recurrent layers over sequences that lie one step after another, without padding.

Their reference is torch's `nn.LSTM`, `nn.GRU` and `nn.RNN`, which on a CPU compute padding, and
for GRU and tanh a small product and an addition to the weight's whole gradient at each step. Here a
weight's gradient is one product, and what a step's gradient is multiplied by is computed for all
steps at once.

P = B_0 + B_1 + ... rows: step t has the first B_t of R rows, which are sorted by length, longest
first. States and their gradients are float32 where autocast has the products in fewer bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from captionlab.decoders.fast.dropout import dropout

if TYPE_CHECKING:
    from captionlab.decoders.cells import RecurrentLayers


def run_packed(
    recurrent: RecurrentLayers, inputs: Tensor, state: tuple[Tensor, ...], sizes: Sequence[int]
) -> Tensor:
    """The top layer's hidden state after each step.

    Args:
        recurrent: layers without a context.
        inputs: of the first layer, (P, I).
        state: before the first step, each (L, R, H).
        sizes: B_t, which never grow.

    Returns:
        (P, H).
    """
    layer = {"LSTM": _LSTM, "GRU": _GRU, "RNN_TANH": _RNN}[recurrent.layers.mode]
    for number, weights in enumerate(recurrent.layers.all_weights):
        if number:
            inputs = dropout(inputs, recurrent.dropout, recurrent.training)
        weight_ih, weight_hh, bias_ih, bias_hh = map(_cast, weights)
        gates = functional.linear(inputs, weight_ih, bias_ih)
        before = [part[number] for part in state]
        inputs = layer.apply(sizes, gates, weight_hh, bias_hh, *before)
    return inputs


def _cast(parameter: Tensor) -> Tensor:
    """To autocast's dtype, once for all steps."""
    device = parameter.device.type
    if not torch.is_autocast_enabled(device):
        return parameter
    return parameter.to(torch.get_autocast_dtype(device))


def _precise(values: Tensor) -> Tensor:
    """In the dtype of states."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


# Each layer takes sizes, W x_t + b of all steps (P, gates), U (gates, H), its bias, and the state.


class _LSTM(torch.autograd.Function):
    """Hochreiter & Schmidhuber 1997; torch's order: input, forget, candidate, output."""

    @staticmethod
    def forward(
        ctx: Any,
        sizes: Sequence[int],
        gates: Tensor,
        weight: Tensor,
        bias: Tensor,
        hidden: Tensor,
        cell: Tensor,
    ) -> Tensor:
        hidden, cell = _precise(hidden), _precise(cell)
        dim = hidden.shape[1]
        hiddens, cells, activations, tanhs, outputs = [], [], [], [], []
        for part, size in _forward_steps(ctx, sizes, gates, hidden):
            hidden, cell = hidden[:size], cell[:size]
            hiddens.append(hidden)
            cells.append(cell)
            share = torch.addmm(bias, hidden.to(weight.dtype), weight.t())  # (B_t, 4H)
            values = _precise(share.add_(part))
            i, f, g, o = values.chunk(4, dim=-1)
            values[:, : 2 * dim].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            cell = torch.addcmul(f * cell, i, g)
            tanhs.append(cell.tanh())
            hidden = o * tanhs[-1]
            activations.append(values)
            outputs.append(hidden)
        _keep(ctx, weight, hiddens, cells, activations, tanhs)
        return torch.cat(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, before, cell, activations, tanh = ctx.saved_tensors
        i, f, g, o = activations.chunk(4, dim=-1)
        # What the gradient of a step's hidden state, or of its cell, is multiplied by.
        to_output, to_cell = tanh * o * (1 - o), o * (1 - tanh * tanh)
        from_cell = torch.stack([g * i * (1 - i), cell * f * (1 - f), i * (1 - g * g)], dim=1)
        by_gates = weight.new_empty(len(grad), 4, grad.shape[1])
        parts = (grad.clone(), to_output, to_cell, from_cell, f, by_gates)
        by_hidden = by_cell = grad.new_empty(0, grad.shape[1])
        for own, output, into, out_of, kept, target in _backward_steps(ctx, *parts):
            total = _add(own, by_hidden)
            by_cell = _add(total * into, by_cell)
            target[:, :3] = by_cell.unsqueeze(1) * out_of
            target[:, 3] = total * output
            by_hidden = _precise(target.flatten(1) @ weight)
            by_cell = by_cell * kept
        by_gates = by_gates.flatten(1)
        states = (_all_rows(ctx, by_hidden), _all_rows(ctx, by_cell))
        return *_gradients(ctx, by_gates, by_gates, weight, before), *states


class _GRU(torch.autograd.Function):
    """Cho et al. 2014; torch's order: reset, update, new."""

    @staticmethod
    def forward(
        ctx: Any,
        sizes: Sequence[int],
        gates: Tensor,
        weight: Tensor,
        bias: Tensor,
        hidden: Tensor,
    ) -> Tensor:
        hidden = _precise(hidden)
        dim = hidden.shape[1]
        hiddens, activations, news, outputs = [], [], [], []
        for part, size in _forward_steps(ctx, sizes, gates, hidden):
            hidden = hidden[:size]
            hiddens.append(hidden)
            share = torch.addmm(bias, hidden.to(weight.dtype), weight.t())
            values = _precise(share)  # (B_t, 3H): reset, update, and the new one's share
            values[:, : 2 * dim].add_(part[:, : 2 * dim]).sigmoid_()
            reset, update, share_new = values.chunk(3, dim=-1)
            new = torch.addcmul(_precise(part[:, 2 * dim :]), reset, share_new).tanh_()
            hidden = torch.lerp(new, hidden, update)  # (1 - z) n + z h
            activations.append(values)
            news.append(new)
            outputs.append(hidden)
        _keep(ctx, weight, hiddens, activations, news)
        return torch.cat(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, before, activations, new = ctx.saved_tensors
        reset, update, share = activations.chunk(3, dim=-1)
        to_new = (1 - update) * (1 - new * new)
        to_reset = to_new * share * reset * (1 - reset)
        to_update = (before - new) * update * (1 - update)
        to_share = torch.stack([to_reset, to_update, to_new * reset], dim=1)  # (P, 3, H)
        by_share = torch.empty_like(to_share, dtype=weight.dtype)
        by_hidden = grad.new_empty(0, grad.shape[1])
        by_output = grad.clone()
        parts = (by_output, to_share, update, by_share)
        for total, factors, kept, target in _backward_steps(ctx, *parts):
            _add(total, by_hidden)
            target.copy_(total.unsqueeze(1) * factors)
            by_hidden = _precise(target.flatten(1) @ weight).addcmul_(total, kept)
        by_gates = by_share.clone()
        by_gates[:, 2] = by_output * to_new
        flat = by_gates.flatten(1), by_share.flatten(1)
        return *_gradients(ctx, *flat, weight, before), _all_rows(ctx, by_hidden)


class _RNN(torch.autograd.Function):
    """Elman 1990, tanh."""

    @staticmethod
    def forward(
        ctx: Any,
        sizes: Sequence[int],
        gates: Tensor,
        weight: Tensor,
        bias: Tensor,
        hidden: Tensor,
    ) -> Tensor:
        hidden = _precise(hidden)
        hiddens, outputs = [], []
        for part, size in _forward_steps(ctx, sizes, gates, hidden):
            hiddens.append(hidden[:size])
            share = torch.addmm(bias, hiddens[-1].to(weight.dtype), weight.t())  # (B_t, H)
            hidden = _precise(share.add_(part)).tanh_()
            outputs.append(hidden)
        _keep(ctx, weight, hiddens, outputs)
        return torch.cat(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, before, output = ctx.saved_tensors
        by_gates = torch.empty_like(grad, dtype=weight.dtype)
        by_hidden = grad.new_empty(0, grad.shape[1])
        parts = (grad.clone(), 1 - output * output, by_gates)
        for own, factor, target in _backward_steps(ctx, *parts):
            target.copy_(_add(own, by_hidden) * factor)
            by_hidden = _precise(target @ weight)
        of_inputs = _gradients(ctx, by_gates, by_gates, weight, before)
        return *of_inputs, _all_rows(ctx, by_hidden)


def _forward_steps(
    ctx: Any, sizes: Sequence[int], gates: Tensor, state: Tensor
) -> Iterator[tuple[Tensor, int]]:
    """Each step's part of the gates and its number of rows; the context gets the latter."""
    ctx.sizes, ctx.num_rows, ctx.dtype = list(sizes), len(state), gates.dtype
    return zip(gates.split(ctx.sizes), ctx.sizes, strict=True)


def _backward_steps(ctx: Any, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of tensors (P, ...), the last step first."""
    parts = [value.split(ctx.sizes) for value in values]
    return (tuple(part[t] for part in parts) for t in reversed(range(len(ctx.sizes))))


def _keep(ctx: Any, weight: Tensor, *values: list[Tensor]) -> None:
    """What the steps computed, for the backward pass, if there will be one."""
    if any(ctx.needs_input_grad):
        ctx.save_for_backward(weight, *(torch.cat(steps) for steps in values))


def _gradients(
    ctx: Any, by_gates: Tensor, by_share: Tensor, weight: Tensor, before: Tensor
) -> tuple[Tensor | None, ...]:
    """Of sizes, gates, weight and bias, from those of W x_t + b and of U h_t-1 + b, (P, gates)."""
    by_weight = by_share.t() @ before.to(weight.dtype)
    return None, by_gates.to(ctx.dtype), by_weight, by_share.sum(0)


def _add(values: Tensor, to_first_rows: Tensor) -> Tensor:
    """Add in place to the first rows, which are those of the next step."""
    values[: len(to_first_rows)] += to_first_rows
    return values


def _all_rows(ctx: Any, first: Tensor) -> Tensor:
    """(R, H), 0 for rows without a step."""
    return functional.pad(first, (0, 0, 0, ctx.num_rows - len(first)))
