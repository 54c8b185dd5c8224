"""What every decoder offers: teacher forcing for training, steps for search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from captionlab.types import ImageFeatures


@dataclass(frozen=True)
class DecoderState:
    """Where R unfinished captions of B images stand, R a multiple of B.

    Rows come grouped by image: row r belongs to image r // (R // B).

    Attributes:
        image: what the decoder made of each image once, each (B, ...).
        memory: what the layers keep of the words so far, each (L, R, ...): states (L, R, H), or
            keys and values (L, R, T, H).
    """

    image: tuple[Tensor, ...]
    memory: tuple[Tensor, ...]


class TeacherForced(NamedTuple):
    """What a decoder says about M true next tokens, each given the true ones before it.

    Attributes:
        logits: floating point (M, V), unnormalised.
        targets: int64 (M,); padding is not among them.
        captions: int64 (M,), whose tokens these are: caption n of image b is b * N + n. Those of
            one caption stand in its order.
        attention: floating point (M, P), where the decoder looked for each token, each row
            summing to 1; None for decoders that do not look at positions.
    """

    logits: Tensor
    targets: Tensor
    captions: Tensor
    attention: Tensor | None = None


class Decoder(nn.Module, ABC):
    """Writes captions about `ImageFeatures`; search knows nothing else of it."""

    @abstractmethod
    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        """Predict every token of true captions from those before it.

        Args:
            features: of B images.
            tokens: int64 (B, N, T), start .. end, then padding; all padding where an image has
                fewer than N captions.
        """

    @abstractmethod
    def start(self, features: ImageFeatures) -> DecoderState:
        """One row for each of B images, before its start token."""

    @abstractmethod
    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Advance every row by one token.

        Args:
            token_R: last token ids, int64 (R,), each in [0, V).
            state: from `start`, `step` or `select`; not modified.

        Returns:
            Log-probabilities of the next token, float32 (R, V), and the new state.
        """

    def select(
        self, state: DecoderState, rows: Tensor, images: Tensor | None = None
    ) -> DecoderState:
        """Keep, repeat or drop rows.

        Args:
            state: not modified.
            rows: int64 (R',), rows of `state`, grouped by image, as many for each image.
            images: int64 (B',), the images that stay, in the order of `rows`; None for all.
        """
        kept = state.image if images is None else tuple(part[images] for part in state.image)
        return DecoderState(kept, tuple(part[:, rows] for part in state.memory))
