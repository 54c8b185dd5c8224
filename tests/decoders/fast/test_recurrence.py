"""Packed recurrent layers are torch's, and dropout is torch's in its distribution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captionlab.decoders.cells import Cell, RecurrentLayers
from captionlab.decoders.fast.dropout import Dropout, dropout
from captionlab.decoders.fast.recurrence import run_packed

SIZES = [5, 4, 4, 2, 1]  # captions of 5, 4, 3, 3 and 1 words


def layers(cell: Cell, num_layers: int = 1, dropout: float = 0.0) -> RecurrentLayers:
    torch.manual_seed(0)
    return RecurrentLayers(cell, 7, 0, 6, num_layers, dropout)


def inputs_of(recurrent: RecurrentLayers, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, ...]]:
    num_states, num_layers, hidden_dim = recurrent.state_shape
    inputs = torch.randn(sum(SIZES), 7, dtype=dtype, requires_grad=True)
    state = [torch.randn(num_layers, SIZES[0], hidden_dim, dtype=dtype) for _ in range(num_states)]
    return inputs, tuple(part.requires_grad_() for part in state)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_outputs_and_gradients_are_those_of_torchs_layers(cell: Cell, num_layers: int) -> None:
    recurrent = layers(cell, num_layers).double()
    inputs, state = inputs_of(recurrent, torch.float64)
    packed = PackedSequence(inputs, torch.tensor(SIZES))
    expected = recurrent.layers(packed, state if len(state) > 1 else state[0])[0].data
    outputs = run_packed(recurrent, inputs, state, SIZES)
    torch.testing.assert_close(outputs, expected, atol=1e-12, rtol=0)
    weight = torch.randn_like(outputs)
    wanted = [inputs, *state, *recurrent.parameters()]
    theirs = torch.autograd.grad((expected * weight).sum(), wanted)
    ours = torch.autograd.grad((outputs * weight).sum(), wanted)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_gradient_given_is_not_modified(cell: Cell) -> None:
    recurrent = layers(cell)
    inputs, state = inputs_of(recurrent, torch.float32)
    outputs = run_packed(recurrent, inputs, state, SIZES)
    grad = torch.ones_like(outputs)
    outputs.backward(grad)
    assert (grad == 1).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_bf16_is_near_float32_and_states_stay_float32(cell: Cell) -> None:
    recurrent = layers(cell, num_layers=2)
    inputs, state = inputs_of(recurrent, torch.float32)
    grads = []
    for enabled in (False, True):
        recurrent.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled):
            outputs = run_packed(recurrent, inputs, state, SIZES)
        assert outputs.dtype == torch.float32
        outputs.square().sum().backward()
        grads.append([p.grad.clone() for p in recurrent.parameters() if p.grad is not None])
    for exact, rounded in zip(*grads, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_dropout_lies_between_layers() -> None:
    recurrent = layers("gru", num_layers=2, dropout=0.5)
    inputs, state = inputs_of(recurrent, torch.float32)
    first, second = (run_packed(recurrent, inputs, state, SIZES) for _ in range(2))
    assert not torch.equal(first, second)
    recurrent.eval()
    first, second = (run_packed(recurrent, inputs, state, SIZES) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.83])
def test_dropout_zeroes_that_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    inputs = torch.ones(301, 1001, requires_grad=True)  # no multiple of 4
    outputs = Dropout(p)(inputs)
    dropped = outputs == 0
    assert dropped.float().mean().item() == pytest.approx(p, abs=0.004)  # four standard errors
    assert outputs[~dropped].unique().tolist() == [pytest.approx(1 / (1 - p), rel=1e-4)]
    for axis in (0, 1):  # neither rows nor columns are alike
        assert dropped.float().mean(axis).std() < 0.05
    outputs.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, outputs)


def test_dropout_depends_on_torchs_seed_alone() -> None:
    inputs = torch.randn(5, 7)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(inputs, 0.5, training=True))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True), (1.0, True)])
def test_without_drawing_dropout_is_torchs(p: float, training: bool) -> None:
    inputs = torch.randn(3, 4)
    assert torch.equal(dropout(inputs, p, training), nn.functional.dropout(inputs, p, training))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dropout_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert dropout(torch.randn(3, 4, dtype=dtype), 0.5, training=True).dtype == dtype
