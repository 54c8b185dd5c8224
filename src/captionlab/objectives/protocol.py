"""What every objective offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.types import CaptionBatch


class Objective(ABC):
    """A batch and a decoder in, a loss to minimise out."""

    @abstractmethod
    def __call__(self, decoder: Decoder, batch: CaptionBatch) -> tuple[Tensor, dict[str, float]]:
        """The loss, a scalar with gradient, and what else is worth logging, by name."""
