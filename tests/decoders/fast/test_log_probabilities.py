"""Log-probabilities of a few words are those of the softmax over the vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captionlab.decoders.fast import log_probabilities as module
from captionlab.decoders.fast.log_probabilities import log_probabilities, plain_log_probabilities


def inputs(dtype: torch.dtype = torch.float) -> tuple[Tensor, Tensor]:
    """Logits of 7 rows and 11 words, and 2 words of each row."""
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(7, 11, generator=generator)
    words = torch.rand(7, 11, generator=generator).argsort(1)[:, :2]
    return logits.to(dtype).requires_grad_(), words


@pytest.mark.parametrize("block_size", [1, 3 * 11, 2**17])  # rows at a time: 1, 3, all
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float, 1e-6),
        (torch.half, 2**-10),
        (torch.bfloat16, 2**-7),
    ],  # gradients: logits' dtype
)
def test_blocks_of_any_size_are_the_plain_formula(
    block_size: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_SIZE", block_size)
    logits, words = inputs(dtype)
    chosen, expected = log_probabilities(logits, words), plain_log_probabilities(logits, words)
    assert chosen.dtype == torch.float
    torch.testing.assert_close(chosen, expected, atol=1e-5, rtol=1e-5)
    (grad,) = torch.autograd.grad(chosen.square().sum(), logits)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), logits)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, expected_grad, atol=1e-4, rtol=tolerance)


def test_very_large_logits_make_no_nan() -> None:
    logits, words = inputs(torch.bfloat16)
    large = (1e5 * logits.detach()).requires_grad_()
    chosen = log_probabilities(large, words)
    chosen.sum().backward()
    assert large.grad is not None
    assert bool(torch.isfinite(chosen).all())
    assert bool(torch.isfinite(large.grad).all())


def test_no_row_at_all_gives_none() -> None:
    logits, words = inputs(torch.bfloat16)
    chosen = log_probabilities(logits[:0], words[:0])
    assert chosen.shape == (0, 2)
    chosen.sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()
