"""Means over the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

from captionlab.objectives import Mean


class RunningMean:
    """A weighted mean of what comes batch by batch.

    Attributes:
        sums: of weighted values and of weights, float32 (2,), on the device of the values.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums = torch.zeros(2)

    def update(self, value: Tensor, weight: int) -> None:
        """Add a scalar."""
        value = value.detach().float()
        weighted = torch.stack([value * weight, value.new_full((), float(weight))])
        self.sums = self.sums.to(value.device) + weighted

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.sums[0] / self.sums[1]


def over_ranks(sums: Tensor) -> Tensor:
    """The sum over all processes; `sums` itself where there is one."""
    if distributed.is_available() and distributed.is_initialized():
        sums = sums.clone()
        distributed.all_reduce(sums)
    return sums


def sums_over_ranks(means: Sequence[Mean], device: torch.device) -> Tensor:
    """What means sum up to over all processes, and their counts, float32 (2, len(means))."""
    values = torch.stack(
        [torch.as_tensor(mean.value, dtype=torch.float32, device=device).detach() for mean in means]
    )
    counts = torch.tensor([float(mean.count) for mean in means], device=device)
    return over_ranks(torch.stack([values * counts, counts]))
