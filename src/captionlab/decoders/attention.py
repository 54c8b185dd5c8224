"""Attention over the feature map: additive, after Xu et al. 2015, and scaled dot-product."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import Conditioning, as_state, grid_map
from captionlab.decoders.step_linear import step_linear
from captionlab.types import FeatureShape, ImageFeatures


class AttentionConditioning(Conditioning):
    """Additive soft attention with a gate; the initial state comes from the mean of the map.

    Source: Xu et al. 2015, eq. 4-6 (attention), sec. 4.2.1 (gate), sec. 3.1.2 (initial state).
    Each position is first mapped to `feature_dim` values, once per image.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        feature_dim: values per position after the map, D.
        attention_dim: size of the space in which position and state are compared, A.
        dropout: probability, on the mapped positions.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        state_shape: StateShape,
        feature_dim: int,
        attention_dim: int,
        dropout: float,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        self.state_shape = state_shape
        self.context_dim = feature_dim
        self.project = grid_map(feature_shape, feature_dim, dropout)
        self.key = nn.Linear(feature_dim, attention_dim)
        self.energy = nn.Linear(attention_dim, 1, bias=False)
        self.query_and_gate = nn.Linear(  # one product
            state_shape.hidden_dim, attention_dim + feature_dim
        )
        self.initial = nn.Linear(feature_dim, prod(state_shape))

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        values = self.project(features.grid)  # (B, P, D)
        return values, self.key(values)

    def initial_state(self, image: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return as_state(self.initial(image[0].mean(1)), self.state_shape)

    def attend(self, hidden: Tensor, image: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        values, keys = image
        both = step_linear(hidden, self.query_and_gate.weight, self.query_and_gate.bias)
        query, gate = both.split([keys.shape[-1], values.shape[-1]], dim=-1)
        compared = (keys.unsqueeze(1) + query.unsqueeze(2)).tanh_()  # (B, K, P, A)
        weights = self.energy(compared).squeeze(-1).softmax(-1)  # (B, K, P)
        return torch.sigmoid(gate) * torch.bmm(weights, values), weights  # (B, K, D)


class DotAttentionConditioning(Conditioning):
    """Scaled dot-product attention with heads, whose query is the hidden state.

    The initial state comes from the mean of the map, as with `AttentionConditioning`. What reads
    the context, the cell's input map, is the output map of the heads.

    Source: Vaswani et al. 2017, sec. 3.2.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        feature_dim: values per position after the map, D, shared out among the heads.
        attention_dim: size of queries and keys, A, shared out among the heads.
        num_heads: divides both.
        dropout: probability, on the mapped positions.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        state_shape: StateShape,
        feature_dim: int,
        attention_dim: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        self.state_shape = state_shape
        self.num_heads = num_heads
        self.context_dim = feature_dim
        self.project = grid_map(feature_shape, feature_dim, dropout)
        self.key = nn.Linear(feature_dim, attention_dim)
        self.query = nn.Linear(state_shape.hidden_dim, attention_dim)
        self.initial = nn.Linear(feature_dim, prod(state_shape))

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        values = self.project(features.grid)  # (B, P, D)
        initial = self.initial(values.mean(1))
        keys = self.key(values)
        return split_heads(values, self.num_heads), split_heads(keys, self.num_heads), initial

    def initial_state(self, image: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return as_state(image[2], self.state_shape)

    def attend(self, hidden: Tensor, image: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        values, keys, _ = image
        query = split_heads(step_linear(hidden, self.query.weight, self.query.bias), self.num_heads)
        compared = query @ keys.mT * query.shape[-1] ** -0.5  # (B, heads, K, P)
        weights = compared.softmax(-1)
        return join_heads(weights @ values), weights.mean(1)


def split_heads(vectors: Tensor, num_heads: int) -> Tensor:
    """(R, T, H) to (R, heads, T, H / heads)."""
    split: Tensor = vectors.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    return split


def join_heads(vectors: Tensor) -> Tensor:
    """(R, heads, T, H / heads) to (R, T, H)."""
    return vectors.transpose(1, 2).flatten(2)
