"""Optimizers of torch, and which parameters they train at which rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import nn
from torch.optim import Optimizer

from captionlab.options import NonNegative, Positive

Decay = Annotated[float, Ge(0), Lt(1)]  # of a running mean


class OptimizerFactory(ABC):
    """Makes an optimizer of groups of parameters.

    Args:
        lr: learning rate, of every group that has none of its own.
    """

    def __init__(self, lr: Positive) -> None:
        self.lr = lr

    @abstractmethod
    def __call__(self, groups: Sequence[dict[str, Any]], fused: bool | None) -> Optimizer:
        """The optimizer.

        Args:
            groups: `params`, and perhaps `lr`.
            fused: True for one kernel that steps all parameters, None for torch's own choice.
        """


class AdamW(OptimizerFactory):
    """Adam with decoupled weight decay: Loshchilov & Hutter 2019.

    Args:
        lr: learning rate.
        weight_decay: per step, times the learning rate.
        betas: of the running means of gradient and squared gradient.
    """

    def __init__(self, lr: Positive, weight_decay: NonNegative, betas: tuple[Decay, Decay]) -> None:
        super().__init__(lr)
        self.weight_decay = weight_decay
        self.betas = betas

    def __call__(self, groups: Sequence[dict[str, Any]], fused: bool | None) -> Optimizer:
        decay = self.weight_decay
        return torch.optim.AdamW(groups, self.lr, self.betas, weight_decay=decay, fused=fused)


class Adam(OptimizerFactory):
    """Kingma & Ba 2015.

    Args:
        lr: learning rate.
        betas: of the running means of gradient and squared gradient.
    """

    def __init__(self, lr: Positive, betas: tuple[Decay, Decay]) -> None:
        super().__init__(lr)
        self.betas = betas

    def __call__(self, groups: Sequence[dict[str, Any]], fused: bool | None) -> Optimizer:
        return torch.optim.Adam(groups, self.lr, self.betas, fused=fused)


class SGD(OptimizerFactory):
    """Stochastic gradient descent.

    Args:
        lr: learning rate.
        momentum: share of the last step that is added to the next.
    """

    def __init__(self, lr: Positive, momentum: Decay) -> None:
        super().__init__(lr)
        self.momentum = momentum

    def __call__(self, groups: Sequence[dict[str, Any]], fused: bool | None) -> Optimizer:
        return torch.optim.SGD(groups, self.lr, self.momentum, fused=fused)


def parameter_groups(
    decoder: nn.Module, trained_encoder: Sequence[nn.Parameter], lr: Positive | None = None
) -> list[dict[str, Any]]:
    """The decoder's parameters, and those of an encoder that is trained at a rate of its own.

    Args:
        decoder: trained at the optimizer's rate.
        trained_encoder: parameters; none where it is frozen.
        lr: learning rate of the trained encoder; null for a tenth of the optimizer's.
    """
    groups: list[dict[str, Any]] = [{"params": list(decoder.parameters())}]
    if trained_encoder:
        groups.append({"params": list(trained_encoder), "lr": lr})
    return groups
