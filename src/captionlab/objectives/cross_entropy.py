"""Maximum likelihood under teacher forcing."""

from __future__ import annotations

import torch
from torch import Tensor

from captionlab.decoders import Decoder, TeacherForced
from captionlab.objectives.protocol import Objective, cross_entropy
from captionlab.types import CaptionBatch


class CrossEntropy(Objective):
    """Mean negative log-likelihood per true token, end token counted, in nats.

    Args:
        label_smoothing: share of the target spread over the vocabulary, in [0, 1); Szegedy et al.
            2016, sec. 7. Without it the loss is the logarithm of the perplexity.
        doubly_stochastic: weight of Xu et al.'s penalty, which asks a caption to look at every
            position once in all: the mean over captions and positions of (1 - sum over tokens of
            the attention) squared. Xu et al. 2015, eq. 14, who sum over positions.

    Raises:
        ValueError: when called with the penalty and a decoder that does not look at positions.
    """

    def __init__(self, label_smoothing: float, doubly_stochastic: float = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self.doubly_stochastic = doubly_stochastic

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        told = decoder(batch.features, batch.tokens)
        loss = cross_entropy(told, self.label_smoothing)
        if not self.doubly_stochastic:
            return loss, {}
        penalty = _unevenness(told)
        return loss + self.doubly_stochastic * penalty, {"unevenness": float(penalty.detach())}


def _unevenness(told: TeacherForced) -> Tensor:
    """How far each caption's looks at each position are from one in all: squared, in the mean."""
    if told.attention is None:
        raise ValueError("doubly_stochastic needs a decoder that looks at positions.")
    captions, number = told.captions.unique(return_inverse=True)
    shape = (len(captions), told.attention.shape[-1])
    looks = torch.zeros(shape, device=number.device).index_add(0, number, told.attention.float())
    return (1 - looks).square().mean()
