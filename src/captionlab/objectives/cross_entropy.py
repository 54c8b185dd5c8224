"""Maximum likelihood under teacher forcing."""

from __future__ import annotations

from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.objectives.protocol import Objective, cross_entropy
from captionlab.types import CaptionBatch


class CrossEntropy(Objective):
    """Mean negative log-likelihood per true token, end token counted, in nats.

    Args:
        label_smoothing: share of the target spread over the vocabulary, in [0, 1); Szegedy et al.
            2016, sec. 7. Without it the loss is the logarithm of the perplexity.
    """

    def __init__(self, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        return cross_entropy(decoder, batch, self.label_smoothing), {}
