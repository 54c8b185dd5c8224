"""A Transformer that reads the feature map, after Vaswani et al. 2017."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionlab.decoders.attention import join_heads, split_heads
from captionlab.decoders.conditioning import grid_map
from captionlab.decoders.protocol import Decoder, DecoderState, TeacherForced
from captionlab.decoders.words import VocabularyLayer, init_embedding
from captionlab.types import PAD_ID, FeatureShape, ImageFeatures


class TransformerDecoder(Decoder):
    """Words -> embedding and position -> causal layers that look at the image -> vocabulary.

    Normalised before each part (Xiong et al. 2020). The map's keys and values are made once per
    image; those of the words are kept from step to step.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E; mapped to H where it differs.
        hidden_dim: size of each layer's output, H.
        num_layers: L.
        num_heads: divides H.
        feedforward_ratio: size between the two linear maps at a layer's end, in H.
        dropout: probability, on word vectors, the mapped image and every part's output.
        positions: `sinusoidal` (Vaswani et al. 2017, sec. 3.5) or `learned`.
        num_positions: how many are learned; later words share the last.
        vocabulary_size: V.
        tie_embeddings: whether the vocabulary layer's weights are the word vectors.
        freeze_embeddings: whether the word vectors stay as they are.
    """

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_ratio: int,
        dropout: float,
        positions: Literal["sinusoidal", "learned"],
        num_positions: int,
        vocabulary_size: int,
        tie_embeddings: bool = False,
        freeze_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=PAD_ID)
        self.widen: nn.Module = nn.Identity()
        if embedding_dim != hidden_dim:
            self.widen = nn.Linear(embedding_dim, hidden_dim)
        self.position: nn.Embedding | None = None
        if positions == "learned":
            self.position = nn.Embedding(num_positions, hidden_dim)
            nn.init.normal_(self.position.weight, std=0.1)
        self.project = grid_map(feature_shape, hidden_dim, dropout)
        self.hidden_dim = hidden_dim
        layers = [
            _Layer(hidden_dim, num_heads, feedforward_ratio * hidden_dim, dropout)
            for _ in range(num_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(hidden_dim)
        self.vocabulary = VocabularyLayer(hidden_dim, self.embedding, tie_embeddings)
        self.dropout = nn.Dropout(dropout)
        init_embedding(self.embedding, freeze_embeddings)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        num_captions = tokens.shape[1]
        state = self.start(features)
        repeated = tuple(part.repeat_interleave(num_captions, dim=1) for part in state.memory)
        state = DecoderState(state.image, repeated)
        outputs, _ = self._advance(tokens[:, :, :-1].flatten(0, 1), state)  # (B*N, T-1, H)
        targets = tokens[:, :, 1:].flatten(0, 1)
        is_word = targets != PAD_ID
        logits = self.vocabulary(self.norm(outputs[is_word]))
        return TeacherForced(logits, targets[is_word], is_word.nonzero()[:, 0])

    def start(self, features: ImageFeatures) -> DecoderState:
        positions = self.project(features.grid)  # (B, P, H)
        image: tuple[Tensor, ...] = ()
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            image += layer.look_at(positions)
        num_images, _, hidden_dim = positions.shape
        nothing = positions.new_zeros(len(self.layers), num_images, 0, hidden_dim)
        return DecoderState(image, (nothing, nothing))

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        outputs, state = self._advance(token_R.unsqueeze(1), state)
        logits = self.vocabulary(self.norm(outputs.squeeze(1)))
        return logits.float().log_softmax(-1), state

    def _advance(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read T more tokens (R, T); gives the last layer's output (R, T, H) and the new state."""
        keys, values = state.memory  # (L, R, T before, H)
        position = torch.arange(tokens.shape[1], device=tokens.device) + keys.shape[2]
        words = self.embedding(tokens) * self.embedding.embedding_dim**0.5  # sec. 3.4
        hidden = self.dropout(self.widen(words) + self._encode(position))
        made = []
        for i, layer in enumerate(self.layers):
            hidden, *memory = layer(hidden, keys[i], values[i], *state.image[2 * i : 2 * i + 2])
            made.append(memory)
        memories = tuple(torch.stack(part) for part in zip(*made, strict=True))
        return hidden, DecoderState(state.image, memories)

    def _encode(self, position: Tensor) -> Tensor:
        """Positions, int64 (T,), as vectors (T, H)."""
        if self.position is not None:
            made: Tensor = self.position(position.clamp(max=self.position.num_embeddings - 1))
            return made
        even = torch.arange(0, self.hidden_dim, 2, device=position.device)
        angle = position.unsqueeze(1) * torch.exp(even * (-math.log(10_000) / self.hidden_dim))
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, : self.hidden_dim]


class _Layer(nn.Module):
    """Words look at earlier words, then at the image, then each is mapped by itself."""

    def __init__(
        self, hidden_dim: int, num_heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_words = nn.LayerNorm(hidden_dim)
        self.norm_image = nn.LayerNorm(hidden_dim)
        self.norm_each = nn.LayerNorm(hidden_dim)
        self.from_words = nn.Linear(hidden_dim, 3 * hidden_dim)  # queries, keys, values
        self.to_words = nn.Linear(hidden_dim, hidden_dim)
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.from_image = nn.Linear(hidden_dim, 2 * hidden_dim)  # keys, values
        self.to_image = nn.Linear(hidden_dim, hidden_dim)
        self.feedforward = nn.Sequential(
            nn.Linear(hidden_dim, feedforward_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward_dim, hidden_dim),
        )
        self.dropout = nn.Dropout(dropout)

    def look_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the map (B, P, H), each (B, heads, P, H / heads)."""
        keys, values = self.from_image(positions).chunk(2, dim=-1)
        return split_heads(keys, self.num_heads), split_heads(values, self.num_heads)

    def forward(
        self,
        hidden: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
        image_keys: Tensor,
        image_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read T words of each row.

        Args:
            hidden: (R, T, H); T is 1 unless there is no past.
            past_keys: of the words before, (R, T', H).
            past_values: likewise.
            image_keys: from `look_at`.
            image_values: likewise.

        Returns:
            (R, T, H), and keys and values of all words, (R, T' + T, H).
        """
        query, keys, values = self.from_words(self.norm_words(hidden)).chunk(3, dim=-1)
        if past_keys.shape[1]:
            keys = torch.cat([past_keys, keys], dim=1)
            values = torch.cat([past_values, values], dim=1)
        looked = functional.scaled_dot_product_attention(
            split_heads(query, self.num_heads),
            split_heads(keys, self.num_heads),
            split_heads(values, self.num_heads),
            is_causal=hidden.shape[1] > 1,
        )
        hidden = hidden + self.dropout(self.to_words(join_heads(looked)))

        num_images = image_keys.shape[0]
        by_image = self.norm_image(hidden).reshape(num_images, -1, hidden.shape[-1])  # (B, K*T, H)
        query = split_heads(self.query(by_image), self.num_heads)
        looked = functional.scaled_dot_product_attention(query, image_keys, image_values)
        hidden = hidden + self.dropout(self.to_image(join_heads(looked)).view_as(hidden))
        return hidden + self.dropout(self.feedforward(self.norm_each(hidden))), keys, values
