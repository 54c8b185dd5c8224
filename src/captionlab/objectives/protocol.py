"""What every objective offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder, TeacherForced
from captionlab.decoders.fast.log_probabilities import log_probabilities
from captionlab.types import PAD_ID, CaptionBatch


@dataclass(frozen=True)
class Mean:
    """A mean, and over how many things, so that the means of several processes can be combined.

    Attributes:
        value: scalar.
        count: of tokens, captions or whatever else `value` is the mean of.
    """

    value: Tensor | float
    count: int


class Objective(ABC):
    """A batch and a decoder in, a loss to minimise out.

    Attributes:
        compilable: whether it calls the decoder by teacher forcing alone, which can be compiled as
            one graph.
        countable: whether `counts` knows the counts of `means` before these are computed, which
            gradients that are accumulated over parts of a batch need.

    A constructor that takes `vocabulary` or `references` is given the vocabulary and the tokenised
    training captions by image.
    """

    compilable: ClassVar[bool] = False
    countable: ClassVar[bool] = False

    @classmethod
    def needs_attention(cls, options: Mapping[str, Any]) -> bool:
        """Whether it works only with a decoder that attends.

        Args:
            options: of the constructor, by name.
        """
        return False

    @abstractmethod
    def means(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[list[Mean], dict[str, Mean]]:
        """The means whose sum is the loss, with gradient, and other values to log, by name.

        Args:
            decoder: in training mode, and left so.
            batch: one row per image, with all its captions. Of several processes each has a part.
            progress: share of the training's steps already taken, in [0, 1).
        """

    def counts(self, tokens: Tensor) -> list[int]:
        """The counts of the means of a loss as the captions (B, N, T) give them, if `countable`."""
        raise NotImplementedError

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of a whole batch, a scalar with gradient, and other values to log, by name."""
        means, logged = self.means(decoder, batch, progress)
        return total([mean.value for mean in means]), {
            name: float(mean.value) for name, mean in logged.items()
        }

    def validate(self, decoder: Decoder, batch: CaptionBatch) -> Tensor:
        """Mean negative log-likelihood per true token, in nats, whatever is minimised."""
        return cross_entropy(decoder(batch.features, batch.tokens))


def total(values: Sequence[Tensor | float]) -> Tensor:
    """The sum of a loss's means."""
    first, *others = values
    assert isinstance(first, Tensor)
    for value in others:
        first = first + value
    return first


def num_targets(tokens: Tensor) -> int:
    """How many tokens of captions (B, N, T) are predicted: all but start and padding."""
    return int((tokens[:, :, 1:] != PAD_ID).sum())


def cross_entropy(predictions: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per true token, in nats."""
    if not label_smoothing:
        return -log_probabilities(predictions.logits, predictions.targets.unsqueeze(-1)).mean()
    return functional.cross_entropy(
        predictions.logits.float(), predictions.targets, label_smoothing=label_smoothing
    )
