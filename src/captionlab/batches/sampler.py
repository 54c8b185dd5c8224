"""The order in which training sees images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

BATCHES_PER_POOL = 50  # that are sorted together by length


class EpochSampler(Sampler[int]):
    """Each rank's share of the items, in an order that depends on seed and epoch alone.

    Args:
        num_items: of the data set.
        seed: of the order.
        shuffle: if not, items keep their order and no item is repeated to make the ranks' shares
            equal, so that evaluation counts nothing twice.
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
        shuffle: bool,
        num_views: int = 1,
        lengths: Sequence[int] = (),
        pool: int = 1,
    ) -> None:
        self.num_items = num_items
        self.seed = seed
        self.shuffle = shuffle
        self.num_views = num_views
        self.lengths = lengths
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rank, num_ranks = self._place()
        order = list(range(self.num_items))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.num_items, generator=generator).tolist()
            if self.pool > 1:
                order = self._grouped(order, generator)
            if self.num_views > 1:
                views = torch.randint(self.num_views, (self.num_items,), generator=generator)
                order = (views * self.num_items + torch.tensor(order)).tolist()
            order += order[: -len(order) % num_ranks]
        return iter(order[rank::num_ranks])

    def __len__(self) -> int:
        rank, num_ranks = self._place()
        if self.shuffle:
            return -(-self.num_items // num_ranks)
        return len(range(rank, self.num_items, num_ranks))

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

    @staticmethod
    def _place() -> tuple[int, int]:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
