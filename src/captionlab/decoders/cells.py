"""Recurrent layers that run a whole sequence fused, or one step, with the same weights."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionlab.decoders.fast.dropout import dropout
from captionlab.decoders.fast.step_linear import step_linear

Cell = Literal["lstm", "gru", "rnn"]
_MODULES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_NUM_STATES = {"lstm": 2, "gru": 1, "rnn": 1}


class StateShape(NamedTuple):
    """Of the state of recurrent layers for one row: `num_states` tensors (L, H)."""

    num_states: int
    num_layers: int
    hidden_dim: int

    @classmethod
    def of(cls, cell: Cell, num_layers: int, hidden_dim: int) -> StateShape:
        """The shape for a kind of cell."""
        return cls(_NUM_STATES[cell], num_layers, hidden_dim)


class RecurrentLayers(nn.Module):
    """A stack of LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014) or tanh layers.

    The state is a tuple of tensors (L, R, H): hidden, and for an LSTM the cell.

    Args:
        cell: `lstm`, `gru` or `rnn` (Elman 1990, tanh).
        input_dim: size of one input vector, I.
        context_dim: size of a further input that each step may bring, known only from the state
            before it; 0 for none.
        hidden_dim: size of each layer's state, H.
        num_layers: L; the hidden vector of one is the input of the next.
        dropout: probability, between layers.
    """

    def __init__(
        self,
        cell: Cell,
        input_dim: int,
        context_dim: int,
        hidden_dim: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.state_shape = StateShape.of(cell, num_layers, hidden_dim)
        self.dropout = dropout
        self.layers = _MODULES[cell](
            input_dim,
            hidden_dim,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.context: nn.Linear | None = None
        if context_dim:
            num_gates = self.layers.weight_ih_l0.shape[0]
            self.context = nn.Linear(context_dim, num_gates, bias=False)
            bound = hidden_dim**-0.5  # as the rest
            nn.init.uniform_(self.context.weight, -bound, bound)
        self._advance = _STEPS[cell]
        if cell == "lstm":
            for name, bias in self.layers.named_parameters():
                if "bias_ih" in name:  # remember by default: Jozefowicz et al. 2015, sec. 2.2
                    nn.init.ones_(bias.data[hidden_dim : 2 * hidden_dim])

    def zero_state(self, like: Tensor) -> tuple[Tensor, ...]:
        """Zeros for R rows; `like` is any tensor (R, ...) of the right device and dtype."""
        num_states, num_layers, hidden_dim = self.state_shape
        return (like.new_zeros(num_layers, like.shape[0], hidden_dim),) * num_states

    def sequence(
        self, inputs: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run (R, T, I) through torch's fused kernel; gives (R, T, H) and the last state."""
        if _autocast_would_be_fp16(inputs.device):
            with torch.autocast(inputs.device.type, enabled=False):
                return self._fused(inputs.float(), tuple(part.float() for part in state))
        return self._fused(inputs, state)

    def _fused(
        self, inputs: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs, last = self.layers(inputs, state if len(state) > 1 else state[0])
        return outputs, last if len(state) > 1 else (last,)

    def project(self, inputs: Tensor) -> Tensor:
        """The first layer's gates so far as they come from its inputs, (..., I) to (..., gates).

        All time steps may be given at once.
        """
        return functional.linear(inputs, self.layers.weight_ih_l0, self.layers.bias_ih_l0)

    def step(
        self, gates: Tensor, context: Tensor | None, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Advance R rows by one time step.

        Args:
            gates: (R, gates), from `project`.
            context: (R, `context_dim`); None if that is 0.
            state: each (L, R, H); not modified.

        Returns:
            The new state; its first tensor's last layer is the output.
        """
        if self.context is not None and context is not None:
            gates = gates + step_linear(context, self.context.weight)
        after: list[tuple[Tensor, ...]] = []  # of each layer, each (R, H)
        for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(self.layers.all_weights):
            if layer:
                below = dropout(after[-1][0], self.dropout, self.training)
                gates = step_linear(below, weight_ih, bias_ih)
            before = tuple(part[layer] for part in state)
            after.append(self._advance(gates, step_linear(before[0], weight_hh, bias_hh), before))
        return tuple(torch.stack(part) for part in zip(*after, strict=True))  # each (L, R, H)


def _autocast_would_be_fp16(device: torch.device) -> bool:
    """Whether autocast would run the fused layers in fp16, which nobody asked for."""
    # Its cuDNN wrapper casts to fp16 whatever the dtype (`_cudnn_rnn_cast_reflatten`, torch 2.14);
    # only under 16-mixed are gradients scaled for that.
    is_on = device.type == "cuda" and torch.is_autocast_enabled("cuda")
    return is_on and torch.get_autocast_dtype("cuda") != torch.float16


def _lstm_step(
    from_input: Tensor, from_hidden: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Gates in torch's order: input, forget, candidate, output. c' = f c + i g, h' = o tanh c'."""
    i, f, g, o = (from_input + from_hidden).chunk(4, dim=-1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _gru_step(
    from_input: Tensor, from_hidden: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Gates in torch's order: reset, update, new. h' = (1 - z) n + z h."""
    input_r, input_z, input_n = from_input.chunk(3, dim=-1)
    hidden_r, hidden_z, hidden_n = from_hidden.chunk(3, dim=-1)
    update = torch.sigmoid(input_z + hidden_z)
    new = torch.tanh(input_n + torch.sigmoid(input_r + hidden_r) * hidden_n)
    return (new + update * (state[0] - new),)


def _rnn_step(
    from_input: Tensor, from_hidden: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """One tanh and no gate: h' = tanh(W x + U h)."""
    return (torch.tanh(from_input + from_hidden),)


_STEPS = {"lstm": _lstm_step, "gru": _gru_step, "rnn": _rnn_step}
