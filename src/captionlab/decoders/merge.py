"""The whole-image vector beside the recurrent layers, which read words alone."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import Conditioning, ImageVector, pooled_map
from captionlab.options import Derived, Probability
from captionlab.types import FeatureShape, ImageFeatures


class MergeConditioning(Conditioning[ImageVector]):
    """The image is merged with the output of the recurrent layers: Tanti et al. 2018, sec. 3.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        combine: `add` the image vector, mapped to H by a linear layer and ReLU, to the output of
            the recurrent layers, or `concatenate` the two.
        dense: whether a layer of H with ReLU comes between them and the vocabulary layer.
        dropout: probability, on the standardised image vector.
    """

    needs_grid = False

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
        combine: Literal["add", "concatenate"],
        dense: bool,
        dropout: Probability,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        hidden_dim = state_shape.hidden_dim
        self.combine = combine
        self.project = pooled_map(feature_shape, hidden_dim, dropout).append(nn.ReLU())
        merged_dim = hidden_dim if combine == "add" else 2 * hidden_dim
        self.dense: nn.Module = nn.Identity()
        if dense:
            self.dense = nn.Sequential(nn.Linear(merged_dim, hidden_dim), nn.ReLU())
        self.output_dim = hidden_dim if dense else merged_dim

    def prepare(self, features: ImageFeatures) -> ImageVector:
        return ImageVector(self.project(features.pooled))  # (B, H)

    def output(self, hidden: Tensor, image: ImageVector) -> Tensor:
        beside = image.vector.unsqueeze(1)  # (B, 1, H)
        if self.combine == "add":
            merged = hidden + beside  # (B, K, H)
        else:
            merged = torch.cat([hidden, beside.expand_as(hidden)], dim=-1)  # (B, K, 2H)
        output: Tensor = self.dense(merged)
        return output
