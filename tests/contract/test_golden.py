"""A refactoring gives the losses that were there before it.

UPDATE_GOLDEN=1 pytest tests/contract/test_golden.py    # only where the mathematics changes
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.conftest import MakeDecoder, features
from tests.contract.test_decoders import EVERY, captions

GOLDEN = Path(__file__).with_name("golden_losses.json")
NUM_STEPS = 4


@pytest.mark.parametrize(("cell", "conditioning", "num_layers"), EVERY)
def test_the_losses_of_a_short_training_are_as_before(
    make_decoder: MakeDecoder, cell: str, conditioning: str, num_layers: int
) -> None:
    decoder = make_decoder(cell, conditioning, num_layers).train()
    images, tokens = features(4), captions(4, 3)
    optimizer = torch.optim.SGD(decoder.parameters(), lr=0.1)
    losses = []
    for _ in range(NUM_STEPS):
        told = decoder(images, tokens)
        loss = functional.cross_entropy(told.logits, told.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 6))
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    name = f"{cell} {conditioning} {num_layers}"
    if "UPDATE_GOLDEN" in os.environ:
        kept[name] = losses
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in kept.items()]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert losses == pytest.approx(kept[name], rel=1e-4)
    assert losses[-1] < losses[0]
