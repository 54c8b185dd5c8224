"""What every objective offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder, TeacherForced
from captionlab.types import CaptionBatch


class Objective(ABC):
    """A batch and a decoder in, a loss to minimise out.

    Attributes:
        compilable: whether it calls the decoder by teacher forcing alone, which can be compiled as
            one graph.
        needs_references: whether the constructor takes `vocabulary` and `references`, the tokenised
            training captions by image.
    """

    compilable: ClassVar[bool] = False
    needs_references: ClassVar[bool] = False

    @classmethod
    def needs_attention(cls, options: Mapping[str, Any]) -> bool:
        """Whether it works only with a decoder that attends.

        Args:
            options: of the constructor, by name.
        """
        return False

    @abstractmethod
    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss, a scalar with gradient, and other values to log, by name.

        Args:
            decoder: in training mode, and left so.
            batch: one row per image, with all its captions.
            progress: share of the training's steps already taken, in [0, 1).
        """

    def validate(self, decoder: Decoder, batch: CaptionBatch) -> Tensor:
        """Mean negative log-likelihood per true token, in nats, whatever is minimised."""
        return cross_entropy(decoder(batch.features, batch.tokens))


def cross_entropy(predictions: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per true token, in nats."""
    return functional.cross_entropy(
        predictions.logits.float(), predictions.targets, label_smoothing=label_smoothing
    )
