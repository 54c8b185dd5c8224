"""A caption decoder of recurrent layers, conditioned on the image in any of the known ways."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionlab.decoders.cells import RecurrentLayers
from captionlab.decoders.conditioning import Conditioning, first_images
from captionlab.decoders.protocol import Decoder, DecoderState, TeacherForced
from captionlab.decoders.step_linear import one_gradient_per_weight
from captionlab.decoders.words import VocabularyLayer, init_embedding
from captionlab.types import PAD_ID, START_ID, ImageFeatures

_MOST_GROUPS = 4  # of captions about as long
_FEWEST_ROWS = 32  # of a group: fewer are slower than the padding that they spare


class RecurrentDecoder(Decoder):
    """Words -> embedding -> recurrent layers -> vocabulary, the image entering by `conditioning`.

    Args:
        cell: `lstm`, `gru` or `rnn`.
        embedding_dim: size of a word vector, E.
        hidden_dim: size of each layer's state, H.
        num_layers: recurrent layers, L.
        dropout: probability, on word vectors, between layers and before the vocabulary layer.
        conditioning: how the image enters, made for the same sizes.
        vocabulary_size: V.
        tie_embeddings: whether the vocabulary layer's weights are the word vectors.
        freeze_embeddings: whether the word vectors stay as they are.
        output_dropout: probability, before the vocabulary layer; None for `dropout`.
    """

    def __init__(
        self,
        cell: str,
        embedding_dim: int,
        hidden_dim: int,
        num_layers: int,
        dropout: float,
        conditioning: Conditioning,
        vocabulary_size: int,
        tie_embeddings: bool = False,
        freeze_embeddings: bool = False,
        output_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=PAD_ID)
        self.recurrent = RecurrentLayers(
            cell,
            conditioning.input_dim,
            conditioning.context_dim,
            hidden_dim,
            num_layers,
            dropout,
        )
        self.vocabulary = VocabularyLayer(conditioning.output_dim, self.embedding, tie_embeddings)
        self.conditioning = conditioning
        self.dropout = nn.Dropout(dropout)
        self.output_dropout = nn.Dropout(dropout if output_dropout is None else output_dropout)
        init_embedding(self.embedding, freeze_embeddings)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        lengths = (tokens[:, :, 1:] != PAD_ID).sum(-1)  # (B, N) tokens to predict
        run = self._run_steps if self.conditioning.context_dim else self._run_fused
        return run(features, tokens, lengths)

    def _run_fused(self, features: ImageFeatures, tokens: Tensor, lengths: Tensor) -> TeacherForced:
        num_images, num_captions, num_tokens = tokens.shape
        image = self.conditioning.prepare(features)
        told = tokens[:, :, :-1].flatten(1)  # (B, N*(T-1))
        inputs = self.conditioning.step_input(self._embed(told), told == START_ID, image)
        inputs = inputs.view(num_images * num_captions, num_tokens - 1, -1)
        state = self._first_state(image)
        state = tuple(part.repeat_interleave(num_captions, dim=1) for part in state)
        outputs = self._run_by_length(inputs, state, lengths.flatten())  # (B*N, T-1, H)
        outputs = self.conditioning.output(
            outputs.reshape(num_images, -1, outputs.shape[-1]), image
        )
        position = torch.arange(num_tokens - 1, device=tokens.device)
        is_word = position < lengths.unsqueeze(-1)  # (B, N, T-1)
        logits = self.vocabulary(self.output_dropout(outputs[is_word.flatten(1)]))
        caption = is_word.flatten(0, 1).nonzero()[:, 0]
        return TeacherForced(logits, tokens[:, :, 1:][is_word], caption)

    def _run_by_length(self, inputs: Tensor, state: tuple[Tensor, ...], lengths: Tensor) -> Tensor:
        """Run captions (R, T, I) of given lengths; gives (R, T, H), of any value at padding.

        On a CPU the shorter ones of many apart, since most of a batch's steps would be padding;
        another device is faster with one large call, and a compiled graph cannot depend on lengths.
        """
        num_groups = min(_MOST_GROUPS, len(inputs) // _FEWEST_ROWS)
        if inputs.device.type != "cpu" or torch.compiler.is_compiling() or num_groups < 2:
            return self.recurrent.sequence(inputs, state)[0]
        order = lengths.argsort(descending=True)
        made = []
        for rows in order.tensor_split(num_groups):
            longest = max(1, int(lengths[rows[0]]))
            own = tuple(part[:, rows] for part in state)
            outputs, _ = self.recurrent.sequence(inputs[rows, :longest], own)
            made.append(functional.pad(outputs, (0, 0, 0, inputs.shape[1] - longest)))
        return torch.cat(made)[order.argsort()]

    def _run_steps(self, features: ImageFeatures, tokens: Tensor, lengths: Tensor) -> TeacherForced:
        # Longest first, both captions of an image and images: what is still being written at step
        # t is then a rectangle (B_t, N_t), and nothing is computed for captions that have ended.
        by_caption = lengths.argsort(dim=1, descending=True, stable=True)
        lengths = lengths.gather(1, by_caption)
        by_image = lengths[:, 0].argsort(descending=True, stable=True)
        captions = by_image.unsqueeze(-1) * tokens.shape[1] + by_caption[by_image]  # (B, N)
        lengths = lengths[by_image]
        tokens = tokens.gather(1, by_caption.unsqueeze(-1).expand_as(tokens))[by_image]
        shapes = [(tokens.shape[0], tokens.shape[1])] * (tokens.shape[2] - 1)
        if not torch.compiler.is_compiling():  # a graph cannot depend on lengths
            on_cpu = lengths.cpu()
            shapes = [
                (int((on_cpu[:, 0] > t).sum()), int((on_cpu > t).sum(1).max()))
                for t in range(int(on_cpu.max()))
            ]
        sizes = [rows * columns for rows, columns in shapes]

        def pack(values: Tensor, shift: int = 0) -> Tensor:
            """(B, N, T, ...) to the rectangles of all steps, one after another."""
            parts = [values[:r, :c, t + shift].flatten(0, 1) for t, (r, c) in enumerate(shapes)]
            return torch.cat(parts)

        image = self.conditioning.prepare(features.select(by_image))
        words = self._embed(pack(tokens)).split(sizes)
        inputs = [
            self.conditioning.step_input(
                part.unflatten(0, (rows, columns)),
                tokens[:rows, :columns, t] == START_ID,
                first_images(image, rows),
            ).flatten(0, 1)
            for t, ((rows, columns), part) in enumerate(zip(shapes, words, strict=True))
        ]
        gates = self.recurrent.project(torch.cat(inputs))

        num_captions = tokens.shape[1]
        state = tuple(
            part.unsqueeze(2).expand(-1, -1, num_captions, -1) for part in self._first_state(image)
        )  # (L, B, N, H)
        outputs, looked = [], []
        with one_gradient_per_weight():
            for (rows, columns), part in zip(shapes, gates.split(sizes), strict=True):
                state = tuple(values[:, :rows, :columns] for values in state)
                flat, weights = self._advance(part.unflatten(0, (rows, columns)), image, state)
                state = tuple(values.unflatten(1, (rows, columns)) for values in flat)
                assert weights is not None
                looked.append(weights.flatten(0, 1))
                read = self.conditioning.output(state[0][-1], first_images(image, rows))
                outputs.append(read.flatten(0, 1))
        targets = pack(tokens, shift=1)
        is_word = targets != PAD_ID  # the corners of the rectangles
        logits = self.vocabulary(self.output_dropout(torch.cat(outputs)[is_word]))
        caption = pack(captions.unsqueeze(-1).expand_as(tokens))[is_word]
        return TeacherForced(logits, targets[is_word], caption, torch.cat(looked)[is_word])

    def start(self, features: ImageFeatures) -> DecoderState:
        image = self.conditioning.prepare(features)
        return DecoderState(image, self._first_state(image))

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        grouped = (state.image[0].shape[0], -1)  # (B, K)
        told = token_R.unflatten(0, grouped)
        inputs = self.conditioning.step_input(self._embed(told), told == START_ID, state.image)
        gates = self.recurrent.project(inputs)
        before = tuple(part.unflatten(1, grouped) for part in state.memory)
        memory, _ = self._advance(gates, state.image, before)
        hidden = memory[0][-1].unflatten(0, grouped)
        output = self.conditioning.output(hidden, state.image).flatten(0, 1)
        logits = self.vocabulary(self.output_dropout(output))
        return logits.float().log_softmax(-1), replace(state, memory=memory)

    def _embed(self, tokens: Tensor) -> Tensor:
        words: Tensor = self.dropout(self.embedding(tokens))
        return words

    def _advance(
        self, gates: Tensor, image: tuple[Tensor, ...], state: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """One step of K captions of each image: gates (B, K, gates), state each (L, B, K, H).

        Returns:
            The new state, each (L, B*K, H), and where it looked, (B, K, P), if it does.
        """
        context = weights = None
        if self.conditioning.context_dim:
            context, weights = self.conditioning.attend(state[0][-1], image)
            context = context.flatten(0, 1)
        flat = tuple(part.flatten(1, 2) for part in state)
        return self.recurrent.step(gates.flatten(0, 1), context, flat), weights

    def _first_state(self, image: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state before the start token, each (L, B, H)."""
        state = self.conditioning.initial_state(image)
        if state is None:
            state = self.recurrent.zero_state(image[0])
        prefix = self.conditioning.prefix(image)
        return state if prefix is None else self.recurrent.sequence(prefix, state)[1]
