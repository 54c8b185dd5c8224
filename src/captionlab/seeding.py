"""Random numbers that depend on what they are for, and on nothing built before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(seed: int, *parts: str | int) -> int:
    """A seed in [0, 2**63) for one part of a run, equal on every machine."""
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *parts: str | int) -> Iterator[None]:
    """Draw from `derive_seed(seed, *parts)` on the CPU; the state outside is left as it was."""
    with seeded_by(derive_seed(seed, *parts)):
        yield


@contextmanager
def seeded_by(seed: int) -> Iterator[None]:
    """As `seeded`, from the seed itself, in [0, 2**64)."""
    import torch  # late: scores need the seeds alone

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every card, too
        yield
