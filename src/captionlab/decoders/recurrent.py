"""A caption decoder of recurrent layers; the image enters by one of several conditionings.

`start` and `step` are the model as the papers have it, and `forward_plain` is teacher forcing by
these steps. Training calls `forward`, which gives the same, packed for speed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from captionlab.decoders.cells import Cell, RecurrentLayers
from captionlab.decoders.conditioning import Conditioning
from captionlab.decoders.fast.dropout import Dropout
from captionlab.decoders.fast.teacher_forcing import teacher_forcing
from captionlab.decoders.protocol import Decoder, DecoderState, PreparedImage, TeacherForced
from captionlab.decoders.words import VocabularyLayer, init_embedding
from captionlab.options import Count, Derived, Probability
from captionlab.text import Vocabulary
from captionlab.types import PAD_ID, START_ID, ImageFeatures


class RecurrentDecoder(Decoder):
    """Words -> embedding -> recurrent layers -> vocabulary, the image entering by `conditioning`.

    Args:
        cell: `lstm`, `gru` or `rnn`.
        embedding_dim: size of a word vector, E.
        hidden_dim: size of each layer's state, H.
        num_layers: recurrent layers, L.
        dropout: probability, on word vectors, between layers and before the vocabulary layer.
        conditioning: how the image enters, built for the same sizes.
        vocabulary_size: V.
        tie_embeddings: whether the vocabulary layer's weights are the word vectors.
        freeze_embeddings: whether the word vectors stay as they are.
        output_dropout: probability, before the vocabulary layer; None for `dropout`.
        word_vectors: path of a file of word vectors of size E to start from; None for random ones.
        vocabulary: whose words the file is searched for.
    """

    takes_conditioning = True

    def __init__(
        self,
        cell: Cell,
        embedding_dim: Count,
        hidden_dim: Count,
        num_layers: Count,
        dropout: Probability,
        conditioning: Conditioning[Any],
        vocabulary_size: Annotated[int, Derived],
        tie_embeddings: bool = False,
        freeze_embeddings: bool = False,
        output_dropout: Probability | None = None,
        word_vectors: str | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.needs_grid, self.attends = conditioning.needs_grid, conditioning.attends
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=PAD_ID)
        self.recurrent = RecurrentLayers(
            cell,
            conditioning.input_dim,
            conditioning.context_dim,
            hidden_dim,
            num_layers,
            dropout,
        )
        self.vocabulary_layer = VocabularyLayer(
            conditioning.output_dim, self.embedding, tie_embeddings
        )
        self.conditioning = conditioning
        self.dropout = Dropout(dropout)
        self.output_dropout = Dropout(dropout if output_dropout is None else output_dropout)
        init_embedding(self.embedding, freeze_embeddings, word_vectors, vocabulary)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        return teacher_forcing(self, features, tokens)

    def forward_plain(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        """`forward`, one time step after another, padding included."""
        num_images, num_captions, num_tokens = tokens.shape
        rows = torch.arange(num_images, device=tokens.device).repeat_interleave(num_captions)
        state = self.select(self.start(features), rows)  # memory (L, B*N, H)
        tokens = tokens.flatten(0, 1)  # (B*N, T)
        steps = []
        for t in range(num_tokens - 1):
            logits, weights, state = self._predict(tokens[:, t], state)
            steps.append((logits, weights))
        all_logits, all_weights = zip(*steps, strict=True)
        targets = tokens[:, 1:]  # (B*N, T-1)
        is_word = targets != PAD_ID
        return TeacherForced(
            logits=torch.stack(all_logits, dim=1)[is_word],  # (B*N, T-1, V) to (M, V)
            targets=targets[is_word],
            captions=is_word.nonzero()[:, 0],
            attention=torch.stack(all_weights, dim=1)[is_word] if self.attends else None,
        )

    def start(self, features: ImageFeatures) -> DecoderState:
        image = self.conditioning.prepare(features)
        return DecoderState(image, self.first_state(image))

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        logits, _, state = self._predict(token_R, state)
        return logits.float().log_softmax(-1), state

    def _predict(
        self, token_R: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """One time step: logits (R, V), attention weights (R, P) if there are, the new state.

        Source:
            Vinyals et al. 2015, eq. 11-13; with attention Xu et al. 2015, eq. 1-6.
        """
        image, by_image = state.image, (len(state.image), -1)  # (B, K)
        token = token_R.unflatten(0, by_image)
        inputs = self.conditioning.step_input(self.embed(token), token == START_ID, image)
        gates = self.recurrent.project(inputs)  # W x_t, (B, K, gates)
        before = tuple(part.unflatten(1, by_image) for part in state.memory)  # (L, B, K, H)
        memory, weights = self.advance(gates, image, before)  # h_t and c_t, of z_t and h_{t-1}
        hidden = memory[0][-1].unflatten(0, by_image)  # of the top layer, (B, K, H)
        output = self.conditioning.output(hidden, image).flatten(0, 1)
        logits = self.vocabulary_layer(self.output_dropout(output))
        weights = None if weights is None else weights.flatten(0, 1)
        return logits, weights, replace(state, memory=memory)

    def embed(self, tokens: Tensor) -> Tensor:
        """Word vectors (..., E) of tokens (...), after dropout."""
        words: Tensor = self.dropout(self.embedding(tokens))
        return words

    def first_state(self, image: PreparedImage) -> tuple[Tensor, ...]:
        """The state before the start token, each (L, B, H)."""
        state = self.conditioning.initial_state(image)
        if state is None:
            state = self.recurrent.zero_state(image.some_tensor)
        prefix = self.conditioning.prefix(image)
        return state if prefix is None else self.recurrent.sequence(prefix, state)[1]

    def advance(
        self, gates: Tensor, image: PreparedImage, state: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The recurrence of one step, of K captions of each image.

        Args:
            gates: the first layer's so far as they come from its inputs, (B, K, gates).
            image: of B images, or of more, of which these are the first.
            state: each (L, B, K, H); not modified.

        Returns:
            The new state, each (L, B*K, H), and the attention weights (B, K, P), if it attends.
        """
        context = weights = None
        if self.attends:
            context, weights = self.conditioning.attend(state[0][-1], image)
            context = context.flatten(0, 1)
        flat = tuple(part.flatten(1, 2) for part in state)
        return self.recurrent.step(gates.flatten(0, 1), context, flat), weights
