"""The number format of fused recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from captionlab.decoders import cells
from captionlab.decoders.cells import Cell, RecurrentLayers


@pytest.fixture
def autocast_of_cuda() -> Iterator[None]:
    """Restores what torch keeps for CUDA, which can be set without a GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    yield
    torch.set_autocast_enabled("cuda", before[0])
    torch.set_autocast_dtype("cuda", before[1])


def test_only_autocast_to_another_format_on_cuda_would_be_fp16(autocast_of_cuda: None) -> None:
    cuda, cpu = torch.device("cuda", 1), torch.device("cpu")
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    assert not cells._autocast_would_be_fp16(cuda)
    torch.set_autocast_enabled("cuda", True)
    assert cells._autocast_would_be_fp16(cuda)
    assert not cells._autocast_would_be_fp16(cpu)
    torch.set_autocast_dtype("cuda", torch.float16)
    assert not cells._autocast_would_be_fp16(cuda), "16-mixed asks for it, and scales gradients"


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_where_autocast_would_be_fp16_layers_compute_in_float32(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layers = RecurrentLayers(cell, 4, 0, 6, 2, 0.0)
    inputs = torch.randn(3, 5, 4).bfloat16()
    state = tuple(torch.randn(2, 3, 6).bfloat16() for _ in layers.zero_state(inputs))
    expected, expected_last = layers.sequence(inputs.float(), tuple(part.float() for part in state))
    monkeypatch.setattr(cells, "_autocast_would_be_fp16", lambda device: True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, last = layers.sequence(inputs, state)
        assert torch.is_autocast_enabled("cpu"), "only for these layers"
    assert outputs.dtype == torch.float32
    torch.testing.assert_close((outputs, *last), (expected, *expected_last))
