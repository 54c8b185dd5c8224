"""What every decoder offers: teacher forcing for training, steps for search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from captionlab.types import ImageFeatures


@dataclass(frozen=True)
class PreparedImage:
    """What a decoder computes once for each of B images.

    A subclass is a frozen dataclass; each of its fields is a tensor (B, ...) or a tuple of such.
    """

    def __len__(self) -> int:
        return self.some_tensor.shape[0]

    @property
    def some_tensor(self) -> Tensor:
        """One of the tensors, for the number of images, the dtype and the device."""
        value: Tensor | tuple[Tensor, ...] = getattr(self, fields(self)[0].name)
        return value[0] if isinstance(value, tuple) else value

    def select(self, images: Tensor) -> Self:
        """The images at `images`, int64 (B',), in that order."""
        return self._map(lambda tensor: tensor[images])

    def first(self, num_images: int) -> Self:
        """The first images; itself where these are all, which spares autograd a copy."""
        if len(self) == num_images:
            return self
        return self._map(lambda tensor: tensor[:num_images])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values: list[Any] = [getattr(self, field.name) for field in fields(self)]
        return type(self)(
            *(tuple(map(function, v)) if isinstance(v, tuple) else function(v) for v in values)
        )


@dataclass(frozen=True)
class DecoderState:
    """R unfinished captions of B images, R a multiple of B.

    Rows are grouped by image: row r belongs to image r // (R // B).

    Attributes:
        image: what the decoder computed once per image.
        memory: what the layers keep of the words so far, each (L, R, ...): states (L, R, H), or
            keys and values (L, R, T, H).
    """

    image: PreparedImage
    memory: tuple[Tensor, ...]


class TeacherForced(NamedTuple):
    """A decoder's predictions of M true next tokens, each given the true tokens before it.

    Attributes:
        logits: floating point (M, V), unnormalised.
        targets: int64 (M,); padding is not among them.
        captions: int64 (M,), the caption of each token: caption n of image b is b * N + n. The
            tokens of one caption are in their order; captions may be interleaved.
        attention: floating point (M, P), the attention weights at each token, each row summing
            to 1; None for decoders that do not attend.
    """

    logits: Tensor
    targets: Tensor
    captions: Tensor
    attention: Tensor | None = None


class Decoder(nn.Module, ABC):
    """Writes captions about `ImageFeatures`; search uses nothing else of it.

    Attributes:
        takes_conditioning: whether the constructor takes a `conditioning`. If not, the decoder
            reads the image itself, and its class sets `needs_grid` and `attends`.
        needs_grid: whether it reads the feature map; if not, whole-image vectors are enough.
        attends: whether teacher forcing gives attention weights over positions.
    """

    takes_conditioning: ClassVar[bool] = False
    needs_grid: bool = True
    attends: bool = False

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
        image = state.image if images is None else state.image.select(images)
        return DecoderState(image, tuple(part[:, rows] for part in state.memory))
