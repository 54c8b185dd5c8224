"""A Transformer that attends to the feature map, after Vaswani et al. 2017."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionlab.decoders.attention import join_heads, split_heads, undivided
from captionlab.decoders.conditioning import grid_map
from captionlab.decoders.fast.dropout import Dropout
from captionlab.decoders.protocol import Decoder, DecoderState, PreparedImage, TeacherForced
from captionlab.decoders.words import VocabularyLayer, init_embedding
from captionlab.options import Count, Derived, Probability
from captionlab.text import Vocabulary
from captionlab.types import PAD_ID, FeatureShape, ImageFeatures


@dataclass(frozen=True)
class CrossAttended(PreparedImage):
    """What the layers' cross-attention reads of each image, each (B, heads, P, H / heads).

    Attributes:
        keys: of every layer.
        values: of every layer.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class TransformerDecoder(Decoder):
    """Words -> embedding and position -> causal layers with cross-attention -> vocabulary.

    Layer normalisation comes before each part of a layer (Xiong et al. 2020). The map's keys and
    values are computed once per image; those of the words are kept from step to step.

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
        word_vectors: path of a file of word vectors of size E to start from; None for random ones.
        vocabulary: whose words the file is searched for.
    """

    needs_grid = True

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Count,
        hidden_dim: Count,
        num_layers: Count,
        num_heads: Count,
        feedforward_ratio: Count,
        dropout: Probability,
        positions: Literal["sinusoidal", "learned"],
        num_positions: Annotated[int, Derived],
        vocabulary_size: Annotated[int, Derived],
        tie_embeddings: bool = False,
        freeze_embeddings: bool = False,
        word_vectors: str | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=PAD_ID)
        self.word_projection: nn.Module = nn.Identity()
        if embedding_dim != hidden_dim:
            self.word_projection = nn.Linear(embedding_dim, hidden_dim)
        self.position: nn.Embedding | None = None
        if positions == "learned":
            self.position = nn.Embedding(num_positions, hidden_dim)
            nn.init.normal_(self.position.weight, std=0.1)
        self.project = grid_map(feature_shape, hidden_dim, dropout)
        self.hidden_dim = hidden_dim
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_dim, num_heads, feedforward_ratio * hidden_dim, dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.vocabulary_layer = VocabularyLayer(hidden_dim, self.embedding, tie_embeddings)
        self.dropout = Dropout(dropout)
        init_embedding(self.embedding, freeze_embeddings, word_vectors, vocabulary)

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        """What is wrong with options that are each in range; None if nothing is."""
        return undivided(options, "hidden_dim")

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        num_captions = tokens.shape[1]
        state = self.start(features)
        memory = tuple(part.repeat_interleave(num_captions, dim=1) for part in state.memory)
        read = tokens[:, :, :-1].flatten(0, 1)  # (B*N, T-1)
        outputs, _ = self._advance(read, DecoderState(state.image, memory))  # (B*N, T-1, H)
        targets = tokens[:, :, 1:].flatten(0, 1)
        is_word = targets != PAD_ID
        logits = self.vocabulary_layer(self.norm(outputs[is_word]))  # (M, V)
        return TeacherForced(logits, targets[is_word], is_word.nonzero()[:, 0])

    def start(self, features: ImageFeatures) -> DecoderState:
        positions = self.project(features.grid)  # (B, P, H)
        pairs = [layer.keys_and_values(positions) for layer in self._layers()]
        image = CrossAttended(*zip(*pairs, strict=True))
        num_images, _, hidden_dim = positions.shape
        no_words = positions.new_zeros(len(self.layers), num_images, 0, hidden_dim)
        return DecoderState(image, (no_words, no_words))  # keys, values

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        outputs, state = self._advance(token_R.unsqueeze(1), state)
        logits = self.vocabulary_layer(self.norm(outputs.squeeze(1)))
        return logits.float().log_softmax(-1), state

    def _advance(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read T more tokens (R, T); gives the last layer's output (R, T, H) and the new state."""
        image, (keys, values) = state.image, state.memory  # each (L, R, T before, H)
        assert isinstance(image, CrossAttended)
        position = torch.arange(tokens.shape[1], device=tokens.device) + keys.shape[2]
        words = self.embedding(tokens) * self.embedding.embedding_dim**0.5  # sec. 3.4
        hidden = self.dropout(self.word_projection(words) + self._encode(position))
        memory = []
        for i, layer in enumerate(self.layers):
            hidden, *of_words = layer(hidden, keys[i], values[i], image.keys[i], image.values[i])
            memory.append(of_words)
        stacked = tuple(torch.stack(part) for part in zip(*memory, strict=True))
        return hidden, DecoderState(image, stacked)

    def _encode(self, position: Tensor) -> Tensor:
        """Vectors (T, H) of positions, int64 (T,)."""
        if self.position is not None:
            learned: Tensor = self.position(position.clamp(max=self.position.num_embeddings - 1))
            return learned
        even = torch.arange(0, self.hidden_dim, 2, device=position.device)
        angle = position.unsqueeze(1) * torch.exp(even * (-math.log(10_000) / self.hidden_dim))
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, : self.hidden_dim]

    def _layers(self) -> list[TransformerLayer]:
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]


class TransformerLayer(nn.Module):
    """Causal self-attention, cross-attention and a feedforward map, each with a residual.

    Args:
        hidden_dim: size of input and output vectors, H; divisible by `num_heads`.
        num_heads: of both attentions.
        feedforward_dim: size between the two linear maps.
        dropout: probability, on each part's output and inside the feedforward map.
    """

    def __init__(
        self, hidden_dim: int, num_heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.self_norm = nn.LayerNorm(hidden_dim)
        self.cross_norm = nn.LayerNorm(hidden_dim)
        self.feedforward_norm = nn.LayerNorm(hidden_dim)
        self.self_query_key_value = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.self_output = nn.Linear(hidden_dim, hidden_dim)
        self.cross_query = nn.Linear(hidden_dim, hidden_dim)
        self.cross_key_value = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.cross_output = nn.Linear(hidden_dim, hidden_dim)
        self.feedforward = nn.Sequential(
            nn.Linear(hidden_dim, feedforward_dim),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(feedforward_dim, hidden_dim),
        )
        self.dropout = Dropout(dropout)

    def keys_and_values(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """For cross-attention to a map (B, P, H), each (B, heads, P, H / heads)."""
        keys, values = self.cross_key_value(positions).chunk(2, dim=-1)
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
            image_keys: from `keys_and_values`.
            image_values: likewise.

        Returns:
            (R, T, H), and keys and values of all words, (R, T' + T, H).
        """
        attended, keys, values = self._self_attention(
            self.self_norm(hidden), past_keys, past_values
        )
        hidden = hidden + self.dropout(attended)
        attended = self._cross_attention(self.cross_norm(hidden), image_keys, image_values)
        hidden = hidden + self.dropout(attended)
        return hidden + self.dropout(self.feedforward(self.feedforward_norm(hidden))), keys, values

    def _self_attention(
        self, hidden: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, values = self.self_query_key_value(hidden).chunk(3, dim=-1)  # (R, T, H)
        if past_keys.shape[1]:
            keys = torch.cat([past_keys, keys], dim=1)  # (R, T' + T, H)
            values = torch.cat([past_values, values], dim=1)
        attended = functional.scaled_dot_product_attention(  # (R, heads, T, H / heads)
            split_heads(query, self.num_heads),
            split_heads(keys, self.num_heads),
            split_heads(values, self.num_heads),
            is_causal=hidden.shape[1] > 1,
        )
        return self.self_output(join_heads(attended)), keys, values

    def _cross_attention(self, hidden: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        by_image = hidden.reshape(len(keys), -1, hidden.shape[-1])  # (R, T, H) to (B, K*T, H)
        query = split_heads(self.cross_query(by_image), self.num_heads)
        attended = functional.scaled_dot_product_attention(query, keys, values)
        output: Tensor = self.cross_output(join_heads(attended)).view_as(hidden)
        return output
