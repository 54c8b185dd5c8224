"""Attention over the feature map: additive, after Xu et al. 2015, and scaled dot-product."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from captionlab.decoders.additive_attention import additive_attention, exponential
from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import Conditioning, as_state, first_images, grid_map
from captionlab.decoders.step_linear import step_linear
from captionlab.errors import ConfigError
from captionlab.types import FeatureShape, ImageFeatures


class _AttentionConditioning(Conditioning):
    """What attends shares: values and keys of the map, and an initial state from its mean."""

    initial: nn.Linear

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        state_shape: StateShape,
        feature_dim: int | None,
        attention_dim: int,
        dropout: float,
    ) -> None:
        super().__init__(feature_shape, embedding_dim, state_shape)
        self.state_shape = state_shape
        self.context_dim = feature_dim or feature_shape.grid_dim
        self.project = grid_map(feature_shape, feature_dim, dropout)
        self.key = nn.Linear(self.context_dim, attention_dim)

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        values = self.project(features.grid)  # (B, P, D)
        return values, self.key(values), self.initial(values.mean(1))

    def initial_state(self, image: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return as_state(image[2], self.state_shape)


class AttentionConditioning(_AttentionConditioning):
    """Additive soft attention with a gate; the initial state comes from the mean of the map.

    Source: Xu et al. 2015, eq. 4-6 (attention), sec. 4.2.1 (gate), sec. 3.1.2 (initial state).
    Each position is first mapped to `feature_dim` values, once per image.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        feature_dim: values per position after the map, D; None for no map, D = C.
        attention_dim: size of the space in which position and state are compared, A.
        dropout: probability, on the values.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        state_shape: StateShape,
        feature_dim: int | None,
        attention_dim: int,
        dropout: float,
    ) -> None:
        super().__init__(
            feature_shape, embedding_dim, state_shape, feature_dim, attention_dim, dropout
        )
        self.energy = nn.Linear(attention_dim, 1, bias=False)
        self.query_and_gate = nn.Linear(  # one product
            state_shape.hidden_dim, attention_dim + self.context_dim
        )
        self.initial = nn.Linear(self.context_dim, prod(state_shape))

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        values, keys, initial = super().prepare(features)
        return values, exponential(keys), initial

    def attend(self, hidden: Tensor, image: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        values, keys, _ = image
        both = step_linear(hidden, self.query_and_gate.weight, self.query_and_gate.bias)
        query, gate = both.split([keys.shape[-1], values.shape[-1]], dim=-1)
        context, weights = additive_attention(keys, values, query, self.energy.weight[0])
        return torch.sigmoid(gate) * context, weights  # (B, K, D), (B, K, P)


class DotAttentionConditioning(_AttentionConditioning):
    """Scaled dot-product attention with heads, whose query is the hidden state.

    The initial state comes from the mean of the map, as with `AttentionConditioning`. What reads
    the context, the cell's input map, is the output map of the heads.

    Source: Vaswani et al. 2017, sec. 3.2.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        feature_dim: values per position after the map, D, shared out among the heads; None for no
            map, D = C.
        attention_dim: size of queries and keys, A, shared out among the heads.
        num_heads: divides both.
        dropout: probability, on the values.

    Raises:
        ConfigError: if the heads do not divide the map's channels where there is no map.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        state_shape: StateShape,
        feature_dim: int | None,
        attention_dim: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__(
            feature_shape, embedding_dim, state_shape, feature_dim, attention_dim, dropout
        )
        if self.context_dim % num_heads:
            raise ConfigError(
                f"conditioning.num_heads must divide the encoder's {self.context_dim} channels "
                f"where conditioning.feature_dim=null, found {num_heads}."
            )
        self.num_heads = num_heads
        self.query = nn.Linear(state_shape.hidden_dim, attention_dim)
        self.initial = nn.Linear(self.context_dim, prod(state_shape))

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        values, keys, initial = super().prepare(features)
        return split_heads(values, self.num_heads), split_heads(keys, self.num_heads), initial

    def attend(self, hidden: Tensor, image: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        values, keys, _ = first_images(image, len(hidden))
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
