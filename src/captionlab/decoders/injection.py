"""The whole-image vector inside the recurrent layers: Tanti et al. 2018, sec. 3."""

from __future__ import annotations

from math import prod
from typing import Annotated

import torch
from torch import Tensor

from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import (
    Conditioning,
    ImageVector,
    as_state,
    batch_norm,
    pooled_map,
)
from captionlab.options import Count, Derived, Probability
from captionlab.types import FeatureShape, ImageFeatures


class InitInjectConditioning(Conditioning[ImageVector]):
    """The image is the initial state of every layer, and of an LSTM's cells too.

    Source: init-inject in Tanti et al. 2018; as in Xu et al. 2015, sec. 3.1.2.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        dropout: probability, on the standardised image vector.
    """

    needs_grid = False

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
        dropout: Probability,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        self.state_shape = state_shape
        self.project = pooled_map(feature_shape, prod(state_shape), dropout)

    def prepare(self, features: ImageFeatures) -> ImageVector:
        return ImageVector(self.project(features.pooled))  # (B, S*L*H)

    def initial_state(self, image: ImageVector) -> tuple[Tensor, ...] | None:
        return as_state(image.vector, self.state_shape)


class PreInjectConditioning(Conditioning[ImageVector]):
    """The image is the first word: Vinyals et al. 2015, eq. 10; pre-inject in Tanti et al. 2018.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        dropout: probability, on the standardised image vector.
        batch_norm_momentum: of a batch norm with parameters after the linear map; None for none.
    """

    needs_grid = False

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
        dropout: Probability,
        batch_norm_momentum: Probability | None = None,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        self.project = pooled_map(feature_shape, embedding_dim, dropout)
        if batch_norm_momentum is not None:
            self.project.append(batch_norm(embedding_dim, batch_norm_momentum))

    def prepare(self, features: ImageFeatures) -> ImageVector:
        return ImageVector(self.project(features.pooled))  # (B, E)

    def prefix(self, image: ImageVector) -> Tensor | None:
        return image.vector.unsqueeze(1)  # (B, 1, E)


class ParInjectConditioning(Conditioning[ImageVector]):
    """The image is read beside the words: par-inject in Tanti et al. 2018.

    With one tanh layer this is h_t = tanh(W x_t + U h_{t-1} + V v).

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        image_dim: size of the image vector that is put behind the word vector.
        first_only: whether it is read with the start token alone, and zeros afterwards.
        dropout: probability, on the standardised image vector.
    """

    needs_grid = False

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
        image_dim: Count,
        first_only: bool,
        dropout: Probability,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        self.input_dim = embedding_dim + image_dim
        self.first_only = first_only
        self.project = pooled_map(feature_shape, image_dim, dropout)

    def prepare(self, features: ImageFeatures) -> ImageVector:
        return ImageVector(self.project(features.pooled))  # (B, image_dim)

    def step_input(self, words: Tensor, is_start: Tensor, image: ImageVector) -> Tensor:
        beside = image.vector.unsqueeze(1).expand(-1, words.shape[1], -1)  # (B, K, image_dim)
        if self.first_only:
            beside = beside * is_start.unsqueeze(-1)
        return torch.cat([words, beside], dim=-1)  # (B, K, E + image_dim)
