"""Several decoders of one vocabulary as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captionlab.decoders import Decoder, DecoderState, PreparedImage, TeacherForced
from captionlab.types import ImageFeatures


@dataclass(frozen=True)
class EnsembleFeatures(ImageFeatures):
    """The features of the same B images for each decoder of an ensemble.

    Attributes:
        members: in the order of the decoders; `grid` and `pooled` are the first one's.
    """

    members: tuple[ImageFeatures, ...]

    @classmethod
    def of(cls, members: Sequence[ImageFeatures]) -> EnsembleFeatures:
        return cls(members[0].grid, members[0].pooled, tuple(members))


@dataclass(frozen=True)
class EnsembleState(DecoderState):
    """The state of each decoder of an ensemble; it has no tensors of its own."""

    members: tuple[DecoderState, ...]

    @classmethod
    def of(cls, members: Iterable[DecoderState]) -> EnsembleState:
        return cls(PreparedImage(), (), tuple(members))


class EnsembleDecoder(Decoder):
    """Predicts the mean of its decoders' probabilities, each from its own features.

    Args:
        decoders: of one vocabulary; they read `EnsembleFeatures`.
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(decoders)
        self.needs_grid = any(decoder.needs_grid for decoder in decoders)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        assert isinstance(features, EnsembleFeatures)
        pairs = zip(self._members(), features.members, strict=True)
        predictions = [decoder(own, tokens) for decoder, own in pairs]
        orders = [one.captions.argsort(stable=True) for one in predictions]  # decoders differ
        log_probs = [
            one.logits.float().log_softmax(-1)[order]
            for one, order in zip(predictions, orders, strict=True)
        ]
        first, order = predictions[0], orders[0]
        return TeacherForced(_mean(log_probs), first.targets[order], first.captions[order])

    def start(self, features: ImageFeatures) -> EnsembleState:
        assert isinstance(features, EnsembleFeatures)
        pairs = zip(self._members(), features.members, strict=True)
        return EnsembleState.of(decoder.start(own) for decoder, own in pairs)

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, EnsembleState]:
        assert isinstance(state, EnsembleState)
        pairs = zip(self._members(), state.members, strict=True)
        steps = [decoder.step(token_R, own) for decoder, own in pairs]
        return _mean([log_probs for log_probs, _ in steps]), EnsembleState.of(
            own for _, own in steps
        )

    def select(
        self, state: DecoderState, rows: Tensor, images: Tensor | None = None
    ) -> EnsembleState:
        assert isinstance(state, EnsembleState)
        pairs = zip(self._members(), state.members, strict=True)
        return EnsembleState.of(decoder.select(own, rows, images) for decoder, own in pairs)

    def _members(self) -> list[Decoder]:
        return [decoder for decoder in self.decoders if isinstance(decoder, Decoder)]


def _mean(log_probs: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean probability."""
    return torch.stack(list(log_probs)).logsumexp(0) - math.log(len(log_probs))
