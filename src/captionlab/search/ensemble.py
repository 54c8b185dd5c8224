"""Several decoders of one vocabulary as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captionlab.decoders import Decoder, DecoderState, TeacherForced
from captionlab.types import ImageFeatures


@dataclass(frozen=True)
class EnsembleFeatures(ImageFeatures):
    """What each decoder of an ensemble sees of the same B images.

    Attributes:
        members: in the order of the decoders; `grid` and `pooled` are the first one's.
    """

    members: tuple[ImageFeatures, ...]

    @classmethod
    def of(cls, members: Sequence[ImageFeatures]) -> EnsembleFeatures:
        return cls(members[0].grid, members[0].pooled, tuple(members))


@dataclass(frozen=True)
class EnsembleState(DecoderState):
    """Where each decoder of an ensemble stands; its own tensors are empty."""

    members: tuple[DecoderState, ...]


class EnsembleDecoder(Decoder):
    """Predicts the mean of its decoders' probabilities, each from its own features.

    Args:
        decoders: of one vocabulary; they read `EnsembleFeatures`.
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(decoders)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        assert isinstance(features, EnsembleFeatures)
        pairs = zip(self._members(), features.members, strict=True)
        told = [decoder(seen, tokens) for decoder, seen in pairs]
        orders = [each.captions.argsort(stable=True) for each in told]  # each decoder has its own
        log_probs = [
            each.logits.float().log_softmax(-1)[order]
            for each, order in zip(told, orders, strict=True)
        ]
        first, order = told[0], orders[0]
        return TeacherForced(_mean(log_probs), first.targets[order], first.captions[order])

    def start(self, features: ImageFeatures) -> EnsembleState:
        assert isinstance(features, EnsembleFeatures)
        pairs = zip(self._members(), features.members, strict=True)
        return EnsembleState((), (), tuple(decoder.start(seen) for decoder, seen in pairs))

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, EnsembleState]:
        assert isinstance(state, EnsembleState)
        pairs = zip(self._members(), state.members, strict=True)
        log_probs, states = zip(
            *(decoder.step(token_R, own) for decoder, own in pairs), strict=True
        )
        return _mean(log_probs), EnsembleState((), (), states)

    def select(
        self, state: DecoderState, rows: Tensor, images: Tensor | None = None
    ) -> EnsembleState:
        assert isinstance(state, EnsembleState)
        pairs = zip(self._members(), state.members, strict=True)
        return EnsembleState((), (), tuple(d.select(own, rows, images) for d, own in pairs))

    def _members(self) -> list[Decoder]:
        return [decoder for decoder in self.decoders if isinstance(decoder, Decoder)]


def _mean(log_probs: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean probability."""
    return torch.stack(list(log_probs)).logsumexp(0) - math.log(len(log_probs))
