"""The whole-image vector beside the recurrent layers, which see words alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import Conditioning, pooled_map
from captionlab.types import FeatureShape, ImageFeatures


class MergeConditioning(Conditioning):
    """The image meets what the recurrent layers put out: merge in Tanti et al. 2018, sec. 3.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        combine: `add` the image vector, mapped to H by a linear layer and ReLU, to the output of
            the recurrent layers, or `concatenate` the two.
        dense: whether a layer of H with ReLU reads them before the vocabulary layer does.
        dropout: probability, on the standardised image vector.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        state_shape: StateShape,
        combine: Literal["add", "concatenate"],
        dense: bool,
        dropout: float,
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

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        return (self.project(features.pooled),)

    def output(self, hidden: Tensor, image: tuple[Tensor, ...]) -> Tensor:
        beside = image[0].unsqueeze(1)
        if self.combine == "add":
            merged = hidden + beside
        else:
            merged = torch.cat([hidden, beside.expand_as(hidden)], dim=-1)
        made: Tensor = self.dense(merged)
        return made
