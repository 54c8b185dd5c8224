"""Learning rate schedules, per optimizer step or, where a score decides, per epoch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from captionlab.options import Count


class Schedule(ABC):
    """Changes the learning rate while training."""

    @abstractmethod
    def __call__(self, optimizer: Optimizer, num_steps: int) -> LRScheduler:
        """The schedule of an optimizer over the steps of a training."""


class ConstantSchedule(Schedule):
    """The optimizer's own learning rate throughout."""

    def __call__(self, optimizer: Optimizer, num_steps: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda step: 1.0)


class CosineSchedule(Schedule):
    """A linear warm-up, then half a cosine down to zero: Loshchilov & Hutter 2017, eq. 5.

    Args:
        warmup_share: share of all steps spent warming up, in [0, 1).
    """

    def __init__(self, warmup_share: Annotated[float, Ge(0), Lt(1)]) -> None:
        self.warmup_share = warmup_share

    def __call__(self, optimizer: Optimizer, num_steps: int) -> LambdaLR:
        warmup = round(self.warmup_share * num_steps)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))

        return LambdaLR(optimizer, factor)


class PlateauSchedule(Schedule):
    """Lowers the learning rate where the monitored score, the higher the better, stands still.

    Args:
        factor: of each lowering, in (0, 1).
        patience: epochs without a better score, after the best or the last lowering.
    """

    def __init__(self, factor: Annotated[float, Gt(0), Lt(1)], patience: Count) -> None:
        self.factor = factor
        self.patience = patience

    def __call__(self, optimizer: Optimizer, num_steps: int) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(  # its patience ends one epoch later
            optimizer, "max", self.factor, patience=self.patience - 1, threshold=0.0
        )
