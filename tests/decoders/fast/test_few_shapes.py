"""Products in bf16 on a CPU come in few shapes, whatever the captions' lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from captionlab.decoders.fast.few_shapes import in_few_shapes
from tests.support.decoders import captions, features, make_decoder


class Products(TorchDispatchMode):
    """Collects the sizes in all matrix products, those of backward passes, too."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.sizes |= {size for factor in args[-2:] for size in factor.shape}
        return func(*args, **(kwargs or {}))


def test_all_steps_words_are_filled_up() -> None:
    model = make_decoder("lstm", "attention").train()
    own = {size for parameter in model.parameters() for size in parameter.shape}
    with Products() as products:
        for seed in range(4):
            with torch.autocast("cpu", torch.bfloat16):
                predictions = model(features(5), captions(5, 6, seed))
            functional.cross_entropy(predictions.logits.float(), predictions.targets).backward()
    longer = {size for size in products.sizes - own if size > 30}  # than a step of 5 x 6 captions
    assert longer
    assert all(size % 128 == 0 for size in longer), longer


def test_other_products_stay_as_they_are() -> None:
    rows = torch.ones(3, 2)
    assert in_few_shapes(rows) is rows
    filled = in_few_shapes(rows.bfloat16())
    assert filled.shape == (128, 2)
    assert filled.sum() == 6
