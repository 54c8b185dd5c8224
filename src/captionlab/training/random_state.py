"""The state of the random number generators of all processes of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def random_state(device: torch.device) -> list[dict[str, Tensor]]:
    """The state of each process's generators, in the order of the processes; all must ask."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, own)
    return states


def restore_random_state(states: list[dict[str, Tensor]], rank: int, device: torch.device) -> None:
    """Draw on from what `random_state` gave."""
    torch.set_rng_state(states[rank]["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states[rank]:
        torch.cuda.set_rng_state(states[rank]["cuda"].cpu(), device)
