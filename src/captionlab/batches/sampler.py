"""The order in which training sees images, and which process sees which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.utils.data import Sampler

from captionlab.errors import ConfigError

BATCHES_PER_POOL = 50  # that are sorted together by length


@dataclass(frozen=True)
class Sharing:
    """How the images of one training step are shared out.

    Attributes:
        num_ranks: processes, one per device, that each take an equal share.
        num_parts: parts of a share that are computed one after another, their gradients summed.
        rank: of this process.
    """

    num_ranks: int = 1
    num_parts: int = 1
    rank: int = 0

    def images_per_step(self, batch_size: int, per_device: bool) -> int:
        """How many images a step sees.

        Args:
            batch_size: `data.batch_size`.
            per_device: whether it is meant for each part of each process.

        Raises:
            ConfigError: if the batch cannot be shared out evenly.
        """
        num_shares = self.num_ranks * self.num_parts
        if not per_device and batch_size % num_shares:
            raise ConfigError(
                f"data.batch_size={batch_size} cannot be shared out evenly over {self}; use a "
                f"multiple of {num_shares}, or data.batch_size_per_device=true."
            )
        return batch_size * num_shares if per_device else batch_size

    def check_last_batch(self, num_images: int, images_per_step: int) -> None:
        """Refuse an epoch whose last batch is too small to be shared out.

        Raises:
            ConfigError: if a process would have no image of it.
        """
        rest, num_shares = num_images % images_per_step, self.num_ranks * self.num_parts
        if 0 < rest < num_shares:
            raise ConfigError(
                f"the last batch of an epoch of {num_images} images has {rest}, too few for "
                f"{self}; choose another data.batch_size, found {images_per_step} images per step."
            )

    def __str__(self) -> str:
        devices = f"{self.num_ranks} device" + ("s" if self.num_ranks > 1 else "")
        return devices + (f" x {self.num_parts} accumulated batches" if self.num_parts > 1 else "")


class EpochSampler(Sampler[int]):
    """All items, in an order that depends on seed and epoch alone.

    Args:
        num_items: of the data set.
        seed: of the order.
        num_views: of each item, of which an epoch draws one; view v of item i has the index
            v * num_items + i.
        lengths: of the items.
        pool: so many shuffled items at a time are sorted by length, so that a batch pads less;
            1 for none.
    """

    def __init__(
        self,
        num_items: int,
        seed: int,
        num_views: int = 1,
        lengths: Sequence[int] = (),
        pool: int = 1,
    ) -> None:
        self.num_items = num_items
        self.seed = seed
        self.num_views = num_views
        self.lengths = lengths
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        seed = (self.seed * 1_000_003 + self.epoch) % 2**63  # torch's largest
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.num_items, generator=generator).tolist()
        if self.pool > 1:
            order = self._grouped(order, generator)
        if self.num_views > 1:
            views = torch.randint(self.num_views, (self.num_items,), generator=generator)
            order = (views * self.num_items + torch.tensor(order)).tolist()
        return iter(order)

    def __len__(self) -> int:
        return self.num_items

    def _grouped(self, order: list[int], generator: torch.Generator) -> list[int]:
        """Sort each pool by length, and shuffle its fiftieths, which are batches."""
        grouped = []
        for begin in range(0, len(order), self.pool):
            pool = sorted(order[begin : begin + self.pool], key=lambda item: self.lengths[item])
            size = self.pool // BATCHES_PER_POOL
            batches = [pool[i : i + size] for i in range(0, len(pool), size)]
            for i in torch.randperm(len(batches), generator=generator).tolist():
                grouped += batches[i]
        return grouped


class StepSampler(Sampler[list[int]]):
    """The share of one process in the items of each step.

    All processes together see the items that one alone would see in that step.

    Args:
        sampler: gives the order of all items.
        num_items: of a step.
        sharing: which share.
    """

    def __init__(self, sampler: EpochSampler, num_items: int, sharing: Sharing) -> None:
        self.sampler = sampler  # Lightning looks for it here to set the epoch
        self.num_items = num_items
        self.sharing = sharing
        self._resumed = (-1, 0)

    def resume(self, epoch: int, num_steps: int) -> None:
        """Begin that epoch after so many of its steps."""
        self._resumed = (epoch, num_steps)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        epoch, num_done = self._resumed
        first = num_done * self.num_items if self.sampler.epoch == epoch else 0
        for begin in range(first, len(order), self.num_items):
            step = order[begin : begin + self.num_items]
            yield step[shares(len(step), self.sharing.num_ranks)[self.sharing.rank]]

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.num_items)


def shares(num_items: int, num_shares: int) -> list[slice]:
    """Consecutive shares of items, as equal as they can be."""
    bounds = [num_items * i // num_shares for i in range(num_shares + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]
