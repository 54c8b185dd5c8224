"""Soft attention over the feature map, after Xu et al. 2015."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from captionlab.decoders.cells import StateShape
from captionlab.decoders.conditioning import Conditioning, standardise
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
        hidden_dim = state_shape.hidden_dim
        self.state_shape = state_shape
        self.context_dim = feature_dim
        self.project = nn.Sequential(
            standardise(feature_shape.grid_dim),
            nn.Linear(feature_shape.grid_dim, feature_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.key = nn.Linear(feature_dim, attention_dim)
        self.energy = nn.Linear(attention_dim, 1, bias=False)
        self.query_and_gate = nn.Linear(hidden_dim, attention_dim + feature_dim)  # one product
        self.initial = nn.Linear(feature_dim, prod(state_shape))

    def prepare(self, features: ImageFeatures) -> tuple[Tensor, ...]:
        values = self.project(features.grid)  # (B, P, D)
        return values, self.key(values)

    def initial_state(self, image: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        num_states, num_layers, hidden_dim = self.state_shape
        state = torch.tanh(self.initial(image[0].mean(1)))  # (B, S*L*H)
        parts = state.view(-1, num_states, num_layers, hidden_dim).permute(1, 2, 0, 3)
        return tuple(part.contiguous() for part in parts)

    def attend(self, hidden: Tensor, image: tuple[Tensor, ...]) -> Tensor | None:
        values, keys = image
        both = step_linear(hidden, self.query_and_gate.weight, self.query_and_gate.bias)
        query, gate = both.split([keys.shape[-1], values.shape[-1]], dim=-1)
        compared = (keys.unsqueeze(1) + query.unsqueeze(2)).tanh_()  # (B, K, P, A)
        weights = self.energy(compared).squeeze(-1).softmax(-1)  # (B, K, P)
        return torch.sigmoid(gate) * torch.bmm(weights, values)  # (B, K, D)
