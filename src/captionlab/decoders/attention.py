"""Attention over the feature map: additive, after Xu et al. 2015, and scaled dot-product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import Conditioning, as_state, grid_map
from captionlab.decoders.fast.additive_attention import additive_attention, exponential
from captionlab.decoders.fast.step_linear import step_linear
from captionlab.decoders.protocol import PreparedImage
from captionlab.errors import ConfigError
from captionlab.options import Count, Derived, Probability
from captionlab.types import FeatureShape, ImageFeatures


@dataclass(frozen=True)
class AttendedImage(PreparedImage):
    """What attention reads of each image.

    Attributes:
        values: of each position, (B, P, D), or (B, heads, P, D / heads).
        keys: of each position, (B, P, A), or (B, heads, P, A / heads).
        initial: the recurrent layers' initial state before its tanh, (B, S*L*H).
    """

    values: Tensor
    keys: Tensor
    initial: Tensor


class _AttentionConditioning(Conditioning[AttendedImage]):
    """What both have: values and keys of the map, and an initial state from its mean."""

    attends = True
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

    def prepare(self, features: ImageFeatures) -> AttendedImage:
        values = self.project(features.grid)  # (B, P, D)
        return AttendedImage(values, self.key(values), self.initial(values.mean(1)))

    def initial_state(self, image: AttendedImage) -> tuple[Tensor, ...] | None:
        return as_state(image.initial, self.state_shape)


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
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
        feature_dim: Count | None,
        attention_dim: Count,
        dropout: Probability,
    ) -> None:
        super().__init__(
            feature_shape, embedding_dim, state_shape, feature_dim, attention_dim, dropout
        )
        self.energy = nn.Linear(attention_dim, 1, bias=False)
        self.query_and_gate = nn.Linear(  # one product
            state_shape.hidden_dim, attention_dim + self.context_dim
        )
        self.initial = nn.Linear(self.context_dim, prod(state_shape))

    def prepare(self, features: ImageFeatures) -> AttendedImage:
        image = super().prepare(features)
        # exp(2 k) of the keys k: the form in which they are compared with queries.
        return AttendedImage(image.values, exponential(image.keys), image.initial)

    def attend(self, hidden: Tensor, image: AttendedImage) -> tuple[Tensor, Tensor]:
        both = step_linear(hidden, self.query_and_gate.weight, self.query_and_gate.bias)
        query, gate = both.split([self.key.out_features, self.context_dim], dim=-1)
        # e = w . tanh(k + q), alpha = softmax(e), z = sum alpha a: eq. 4-6
        context, weights = additive_attention(
            image.keys, image.values, query, self.energy.weight[0]
        )
        return torch.sigmoid(gate) * context, weights  # (B, K, D), (B, K, P); beta: sec. 4.2.1


class DotAttentionConditioning(_AttentionConditioning):
    """Scaled dot-product attention with heads; the query is the hidden state.

    The initial state comes from the mean of the map, as with `AttentionConditioning`. The cell's
    own map of the context serves as the output map of the heads.

    Source: Vaswani et al. 2017, sec. 3.2.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.
        feature_dim: values per position after the map, D, divided among the heads; None for no
            map, D = C.
        attention_dim: size of queries and keys, A, divided among the heads.
        num_heads: divides both.
        dropout: probability, on the values.

    Raises:
        ConfigError: if the heads do not divide the map's channels where there is no map.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
        feature_dim: Count | None,
        attention_dim: Count,
        num_heads: Count,
        dropout: Probability,
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

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        """What is wrong with options that are each in range; None if nothing is."""
        return undivided(options, "attention_dim") or undivided(options, "feature_dim")

    def prepare(self, features: ImageFeatures) -> AttendedImage:
        image = super().prepare(features)
        values = split_heads(image.values, self.num_heads)
        return AttendedImage(values, split_heads(image.keys, self.num_heads), image.initial)

    def attend(self, hidden: Tensor, image: AttendedImage) -> tuple[Tensor, Tensor]:
        image = image.first(len(hidden))
        query = split_heads(step_linear(hidden, self.query.weight, self.query.bias), self.num_heads)
        energy = query @ image.keys.mT * query.shape[-1] ** -0.5  # (B, heads, K, P)
        weights = energy.softmax(-1)
        return join_heads(weights @ image.values), weights.mean(1)  # (B, K, D), (B, K, P)


def undivided(options: Mapping[str, Any], name: str) -> str | None:
    """What is wrong if `num_heads` does not divide a size; None if it does, or there is none."""
    size, heads = options[name], options["num_heads"]
    return f"num_heads must divide {name}={size}, found {heads}." if (size or 0) % heads else None


def split_heads(vectors: Tensor, num_heads: int) -> Tensor:
    """(R, T, H) to (R, heads, T, H / heads)."""
    split: Tensor = vectors.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    return split


def join_heads(vectors: Tensor) -> Tensor:
    """(R, heads, T, H / heads) to (R, T, H)."""
    return vectors.transpose(1, 2).flatten(2)
