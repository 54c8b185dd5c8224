"""What every objective offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder, TeacherForced
from captionlab.types import CaptionBatch


class Objective(ABC):
    """A batch and a decoder in, a loss to minimise out."""

    @abstractmethod
    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss, a scalar with gradient, and what else is worth logging, by name.

        Args:
            decoder: in training mode, and left so.
            batch: one row per image, with all its captions.
            progress: the share of the training's steps that are done, in [0, 1).
        """

    def validate(self, decoder: Decoder, batch: CaptionBatch) -> Tensor:
        """Mean negative log-likelihood per true token, in nats, whatever is minimised."""
        return cross_entropy(decoder(batch.features, batch.tokens))


def cross_entropy(told: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per true token, in nats."""
    return functional.cross_entropy(
        told.logits.float(), told.targets, label_smoothing=label_smoothing
    )
