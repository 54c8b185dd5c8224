"""Searches compute without gradients, and convert weights to bf16 once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from captionlab.gradients import without_gradients


class Conversions(TorchDispatchMode):
    """Counts what is converted to bf16."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_conversion = func is torch.ops.aten._to_copy.default
        self.number += is_conversion and kwargs.get("dtype") is torch.bfloat16
        return func(*args, **kwargs)


def test_weights_are_converted_once_for_all_steps_of_a_search() -> None:
    layer = nn.Linear(4, 4)
    inputs = torch.randn(2, 4, dtype=torch.bfloat16)

    def search() -> Tensor:
        for _ in range(10):
            outputs = layer(inputs)
        return outputs

    # As under Lightning, which turns autocast's memory off, in training and in validation.
    for with_gradients in (True, False):
        with (
            torch.set_grad_enabled(with_gradients),
            torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
            Conversions() as plain,
        ):
            search()
            assert plain.number == 20, "a weight and a bias at every step"
            plain.number = 0
            assert not without_gradients(search)().requires_grad
            assert plain.number == 2
            plain.number = 0
            search()
            assert plain.number == 20, "the caller's setting is back"


def test_weights_that_a_search_converted_have_gradients_afterwards() -> None:
    layer = nn.Linear(4, 4)
    inputs = torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        without_gradients(layer)(inputs)
        layer(inputs).sum().backward()
    assert layer.weight.grad is not None
