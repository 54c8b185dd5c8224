"""Maximum likelihood under teacher forcing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captionlab.decoders import Decoder, TeacherForced
from captionlab.objectives.protocol import Mean, Objective, cross_entropy, num_targets
from captionlab.options import NonNegative, Probability
from captionlab.types import PAD_ID, CaptionBatch


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
    countable = True

    def __init__(self, label_smoothing: Probability, doubly_stochastic: NonNegative = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self.doubly_stochastic = doubly_stochastic

    @classmethod
    def needs_attention(cls, options: Mapping[str, Any]) -> bool:
        return bool(options.get("doubly_stochastic"))

    def means(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[list[Mean], dict[str, Mean]]:
        predictions = decoder(batch.features, batch.tokens)
        loss = Mean(cross_entropy(predictions, self.label_smoothing), len(predictions.targets))
        if not self.doubly_stochastic:
            return [loss], {}
        penalty, num_captions = _unevenness(predictions)
        weighted = Mean(self.doubly_stochastic * penalty, num_captions)
        return [loss, weighted], {"unevenness": Mean(penalty.detach(), num_captions)}

    def counts(self, tokens: Tensor) -> list[int]:
        num_captions = int((tokens[:, :, 1:] != PAD_ID).any(-1).sum())
        return [num_targets(tokens), *([num_captions] if self.doubly_stochastic else [])]


def _unevenness(predictions: TeacherForced) -> tuple[Tensor, int]:
    """Mean squared distance from one of a caption's attention to a position, summed over tokens.

    The mean is over captions and positions; the second value is how many captions there are.
    """
    attention = predictions.attention
    if attention is None:
        raise ValueError("doubly_stochastic needs a decoder that attends to positions.")
    captions, number = predictions.captions.unique(return_inverse=True)
    zeros = torch.zeros((len(captions), attention.shape[-1]), device=number.device)
    sums = zeros.index_add(0, number, attention.float())
    return (1 - sums).square().mean(), len(captions)
