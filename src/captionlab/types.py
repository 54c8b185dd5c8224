"""Value types that several packages share.

Shape letters, here and everywhere: B images, N captions per image, T tokens, P grid positions,
C grid channels, G pooled channels, H hidden, E embedding, V vocabulary, K beams.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # scores and reports use these types without torch
    import torch
    from torch import Tensor

PAD_ID = 0  # of every vocabulary
START_ID = 1
END_ID = 2
UNKNOWN_ID = 3


@dataclass(frozen=True)
class FeatureShape:
    """What an encoder makes of one image, known before it makes it.

    Attributes:
        grid_size: rows and columns of the feature map; P is their product.
        grid_dim: channels of the map, C.
        pooled_dim: channels of the whole-image vector, G.
    """

    grid_size: tuple[int, int]
    grid_dim: int
    pooled_dim: int

    @property
    def num_positions(self) -> int:
        return self.grid_size[0] * self.grid_size[1]


@dataclass(frozen=True)
class ImageFeatures:
    """What a decoder sees of B images.

    Attributes:
        grid: floating point (B, P, C), positions row by row from the top left.
        pooled: floating point (B, G).
    """

    grid: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return self.pooled.shape[0]

    def select(self, rows: Tensor) -> ImageFeatures:
        """The images at `rows`, int64 (B',), in that order."""
        return ImageFeatures(self.grid[rows], self.pooled[rows])

    def to(self, *args: Any, **kwargs: Any) -> ImageFeatures:
        """Both tensors moved or cast as by `torch.Tensor.to`."""
        return ImageFeatures(self.grid.to(*args, **kwargs), self.pooled.to(*args, **kwargs))


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become an encoder's input; it comes with the weights.

    Attributes:
        image_size: side of the square input, in pixels.
        resize_size: the shorter side is resized to this before the centre crop.
        interpolation: as `torchvision.transforms.InterpolationMode` spells it.
        mean: per RGB channel, of pixels in [0, 1].
        std: per RGB channel, of pixels in [0, 1].
    """

    image_size: int
    resize_size: int
    interpolation: Literal["bilinear", "bicubic", "nearest"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class CaptionBatch:
    """One row per image, with all its captions.

    Attributes:
        image_ids: B ids, as in the corpus.
        features: of the B images.
        tokens: int64 (B, N, T): start, words, end, then padding. N is the largest number of
            captions of an image of the batch; a row without a caption is all padding. Empty
            (B, 0, 0) where only the images matter.
        mirrored: ids of those images that are seen mirrored, as their captions are.
    """

    image_ids: tuple[str, ...]
    features: ImageFeatures
    tokens: Tensor
    mirrored: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.image_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CaptionBatch:
        return replace(
            self,
            features=self.features.to(device, non_blocking=non_blocking),
            tokens=self.tokens.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> CaptionBatch:
        features = ImageFeatures(self.features.grid.pin_memory(), self.features.pooled.pin_memory())
        return replace(self, features=features, tokens=self.tokens.pin_memory())


@dataclass(frozen=True)
class PixelBatch:
    """What becomes a `CaptionBatch` in an encoder that is trained.

    Attributes:
        image_ids: B ids, as in the corpus.
        pixels: uint8 (B, 3, S, S).
        tokens: as in `CaptionBatch`.
        mirrored: as in `CaptionBatch`.
    """

    image_ids: tuple[str, ...]
    pixels: Tensor
    tokens: Tensor
    mirrored: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.image_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PixelBatch:
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=non_blocking),
            tokens=self.tokens.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> PixelBatch:
        pixels, tokens = self.pixels.pin_memory(), self.tokens.pin_memory()
        return replace(self, pixels=pixels, tokens=tokens)


@dataclass(frozen=True)
class Hypothesis:
    """One caption found by a search.

    Attributes:
        tokens: word ids, without start and end.
        log_probability: natural logarithm, summed over the words and the end token.
        score: what the search ranked by (the log-probability after length normalisation).
        finished: whether the model wrote the end token; if not, the end is missing from
            `log_probability` too.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    finished: bool
