"""Maximum likelihood under teacher forcing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captionlab.decoders import Decoder, TeacherForced
from captionlab.objectives.protocol import Objective, cross_entropy
from captionlab.options import NonNegative, Probability
from captionlab.types import CaptionBatch


class CrossEntropy(Objective):
    """Mean negative log-likelihood per true token, end token counted, in nats.

    Args:
        label_smoothing: share of the target spread over the vocabulary, in [0, 1); Szegedy et al.
            2016, sec. 7. Without it the loss is the logarithm of the perplexity.
        doubly_stochastic: weight of Xu et al.'s penalty, which asks a caption's attention to each
            position to sum to one: the mean over captions and positions of (1 - sum over tokens of
            the attention) squared. Xu et al. 2015, eq. 14, who sum over positions.

    Raises:
        ValueError: when called with the penalty and a decoder that does not attend.
    """

    compilable = True

    def __init__(self, label_smoothing: Probability, doubly_stochastic: NonNegative = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self.doubly_stochastic = doubly_stochastic

    @classmethod
    def needs_attention(cls, options: Mapping[str, Any]) -> bool:
        return bool(options.get("doubly_stochastic"))

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        predictions = decoder(batch.features, batch.tokens)
        loss = cross_entropy(predictions, self.label_smoothing)
        if not self.doubly_stochastic:
            return loss, {}
        penalty = _unevenness(predictions)
        return loss + self.doubly_stochastic * penalty, {"unevenness": float(penalty.detach())}


def _unevenness(predictions: TeacherForced) -> Tensor:
    """Mean squared distance from one of a caption's attention to a position, summed over tokens."""
    attention = predictions.attention
    if attention is None:
        raise ValueError("doubly_stochastic needs a decoder that attends to positions.")
    captions, number = predictions.captions.unique(return_inverse=True)
    zeros = torch.zeros((len(captions), attention.shape[-1]), device=number.device)
    sums = zeros.index_add(0, number, attention.float())
    return (1 - sums).square().mean()
