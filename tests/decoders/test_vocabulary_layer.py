"""Logits in bf16: products of as few shapes as can be, and what they give."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from captionlab.decoders.words import VocabularyLayer


def test_bf16_products_have_few_shapes_and_the_same_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer = VocabularyLayer(8, nn.Embedding(11, 8), tied=False)
    plain = {n: layer(torch.ones(n, 8) / n) for n in (1, 127, 128, 129)}  # fp32
    shapes = set()
    linear = functional.linear

    def seen(inputs: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        shapes.add(len(inputs))
        return linear(inputs, *others)

    monkeypatch.setattr(functional, "linear", seen)
    with torch.autocast("cpu", torch.bfloat16):
        for n, expected in plain.items():
            inputs = (torch.ones(n, 8) / n).requires_grad_()
            logits = layer(inputs)
            torch.testing.assert_close(logits.float(), expected, rtol=0.02, atol=0.01)  # bf16
            (gradient,) = torch.autograd.grad(logits.float().sum(), inputs)
            whole = layer.weight.sum(0).expand(n, 8)
            torch.testing.assert_close(gradient, whole, rtol=0.05, atol=0.02)
    assert shapes == {128, 256}
