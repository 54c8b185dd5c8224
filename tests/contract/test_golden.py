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

from tests.support.decoders import MakeDecoder, captions, features

GOLDEN = Path(__file__).with_name("golden_losses.json")
KEPT: dict[str, list[float]] = json.loads(GOLDEN.read_text())
RENAMED = {"merge_add": "merge"}  # since the losses were written
NUM_STEPS = 4


@pytest.mark.parametrize("name", KEPT)
def test_the_losses_of_a_short_training_are_as_before(make_decoder: MakeDecoder, name: str) -> None:
    cell, conditioning, num_layers = name.split()
    way = RENAMED.get(conditioning, conditioning)
    decoder = make_decoder(cell, way, int(num_layers)).train()
    images, tokens = features(4), captions(4, 3)
    optimizer = torch.optim.SGD(decoder.parameters(), lr=0.1)
    losses = []
    for _ in range(NUM_STEPS):
        predictions = decoder(images, tokens)
        loss = functional.cross_entropy(predictions.logits, predictions.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 6))
    if "UPDATE_GOLDEN" in os.environ:
        KEPT[name] = losses
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in KEPT.items()]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    # Processors round differently in the last of these digits; other mathematics changes the first.
    assert losses == pytest.approx(KEPT[name], rel=1e-4)
    assert losses[-1] < losses[0]
