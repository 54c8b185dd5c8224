"""Log-probabilities of a few words, without those of the whole vocabulary in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK_SIZE = 2**17  # logits in a block, per thread: small enough for a core's second cache


def plain_log_probabilities(logits: Tensor, words: Tensor) -> Tensor:
    """The reference: as `log_probabilities`."""
    return logits.float().log_softmax(-1).gather(1, words)


def log_probabilities(logits: Tensor, words: Tensor) -> Tensor:
    """Natural logarithms of the softmax of logits, of some words.

    Of half-precision logits on a CPU, the softmax and its gradient are computed in float32 a block
    of rows at a time, so that nothing of the size of the logits is written but their gradient.

    Args:
        logits: of any floating dtype, (M, V).
        words: int64 (M, J), ids in [0, V), those of a row different from each other.

    Returns:
        float32 (M, J).
    """
    if logits.device.type != "cpu" or logits.dtype.itemsize > 2:  # in float32 it would not pay
        return plain_log_probabilities(logits, words)
    chosen: Tensor = _LogProbabilities.apply(logits, words)
    return chosen


def _blocks(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some rows of the logits as float32, overwritten by the next, and the same of `others`."""
    num_rows, num_words = logits.shape
    size = min(num_rows, max(1, torch.get_num_threads() * _BLOCK_SIZE // num_words))
    buffer = logits.new_empty((size, num_words), dtype=torch.float32)
    parts = (part.split(max(1, size)) for part in (logits, *others))
    for block, *others_b in zip(*parts, strict=True):
        yield buffer[: len(block)].copy_(block), *others_b


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, words: Tensor) -> Tensor:
        chosen = logits.gather(1, words).float()
        normaliser = chosen.new_empty(len(logits), 1)  # the logarithm of the sum of exponentials
        for block, normaliser_b in _blocks(logits, normaliser):
            largest = block.amax(1, keepdim=True)
            exponentials = block.sub_(largest).exp_()
            torch.add(exponentials.sum(1, keepdim=True).log_(), largest, out=normaliser_b)
        ctx.save_for_backward(logits, words, normaliser)
        return chosen.sub_(normaliser)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, words, normaliser = ctx.saved_tensors
        logits_grad = torch.empty_like(logits)
        others = (normaliser, words, grad, -grad.sum(1, keepdim=True), logits_grad)
        for block, normaliser_b, words_b, grad_b, minus_b, into in _blocks(logits, *others):
            softmax = block.sub_(normaliser_b).exp_()
            into.copy_(softmax.mul_(minus_b).scatter_add_(1, words_b, grad_b))
        return logits_grad, None
