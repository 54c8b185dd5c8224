"""What may be done to a feature map behind its network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_REGULARISATION = 0.1  # of the mean variance, added to each


class Whitening(nn.Module):
    """Makes the channels of maps uncorrelated, with mean 0 and variance 1.

    Each channel is standardised, then principal components are scaled and turned back (ZCA), so
    that nothing depends on their order and signs, which differ from machine to machine.

    Source: Coates & Ng 2012, sec. 2.2.

    Args:
        dim: number of channels, C.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim, device="meta"))
        self.register_buffer("weight", torch.zeros(dim, dim, device="meta"))

    def fit(self, maps: Tensor) -> dict[str, Tensor]:
        """Take the statistics of maps (B, P, C); they are returned, for `restore`, on the CPU."""
        vectors = maps.float().flatten(0, 1)
        mean = vectors.mean(0)
        std = vectors.std(0) + 1e-3
        covariance = torch.cov(((vectors - mean) / std).T)
        variances, components = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(0) + _REGULARISATION * variances.mean()
        weight = (components * variances.rsqrt()) @ components.T / std[:, None]
        fitted = {"whitening.mean": mean.cpu(), "whitening.weight": weight.cpu()}
        self.restore(fitted, maps.device)
        return fitted

    def restore(self, fitted: Mapping[str, Tensor], device: torch.device) -> None:
        """Take what `fit` gave, float32."""
        self.mean = fitted["whitening.mean"].to(device)
        self.weight = fitted["whitening.weight"].to(device)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, P, C) to maps of the same shape."""
        whitened: Tensor = (maps - self.mean) @ self.weight.to(maps.dtype)
        return whitened


def positions(rows: int, columns: int) -> Tensor:
    """Row and column of each position from -1 to 1, float32 (P, 2)."""
    across, down = torch.linspace(-1, 1, columns), torch.linspace(-1, 1, rows)
    return torch.stack([down.repeat_interleave(columns), across.repeat(rows)], dim=1)
