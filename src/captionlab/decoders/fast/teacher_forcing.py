"""`RecurrentDecoder.forward_plain`, faster: the same predictions, in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from captionlab.decoders.fast.few_shapes import in_few_shapes
from captionlab.decoders.fast.recurrence import run_packed
from captionlab.decoders.fast.step_linear import one_gradient_per_weight
from captionlab.decoders.protocol import TeacherForced
from captionlab.types import PAD_ID, START_ID, ImageFeatures

if TYPE_CHECKING:
    from captionlab.decoders.recurrent import RecurrentDecoder


# Rows of products in bf16 come in multiples of this: oneDNN compiles a product for each number of
# rows and keeps up to 1,024 of them, gigabytes.
_UNIT = 16


def teacher_forcing(
    decoder: RecurrentDecoder, features: ImageFeatures, tokens: Tensor
) -> TeacherForced:
    """Whole sequences at once, or only the steps' unfinished captions where the decoder attends."""
    if decoder.attends:
        return _by_step(decoder, features, tokens)
    # Another device is faster with one large call, as is oneDNN's LSTM in bf16; a compiled graph
    # cannot depend on lengths.
    is_fused = decoder.recurrent.layers.mode == "LSTM" and torch.is_autocast_enabled("cpu")
    padded = tokens.device.type != "cpu" or torch.compiler.is_compiling() or is_fused
    return (_padded if padded else _packed)(decoder, features, tokens)


def _padded(decoder: RecurrentDecoder, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
    """No step's inputs depend on the state before it: torch's fused kernels run all steps."""
    num_images, num_captions, num_tokens = tokens.shape
    conditioning = decoder.conditioning
    image = conditioning.prepare(features)
    read = tokens[:, :, :-1].flatten(1)  # (B, N*(T-1))
    inputs = conditioning.step_input(decoder.embed(read), read == START_ID, image)
    inputs = inputs.view(num_images * num_captions, num_tokens - 1, -1)
    state = decoder.first_state(image)
    state = tuple(part.repeat_interleave(num_captions, dim=1) for part in state)
    outputs = decoder.recurrent.sequence(inputs, state)[0]  # (B*N, T-1, H)
    outputs = conditioning.output(outputs.reshape(num_images, -1, outputs.shape[-1]), image)
    is_word = tokens[:, :, 1:] != PAD_ID  # (B, N, T-1)
    return _predictions(decoder, outputs[is_word.flatten(1)], tokens)


def _packed(decoder: RecurrentDecoder, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
    """As `_padded`, but nothing is computed for padding, which is half of a batch's steps.

    What concerns single words has them image by image, K for each; the recurrence has them step by
    step, the longest captions first.
    """
    num_captions, conditioning = tokens.shape[1], decoder.conditioning
    image = conditioning.prepare(features)
    unit = _UNIT if torch.is_autocast_enabled("cpu") else 1
    is_word = tokens[:, :, 1:] != PAD_ID  # (B, N, T-1)
    place = is_word.flatten(1).cumsum(1) - 1  # of each word among those of its image
    num_words = place[:, -1] + 1
    most = _multiple(int(num_words.max()), unit)  # K
    place = place.view_as(is_word) + most * torch.arange(len(tokens)).view(-1, 1, 1)
    read = tokens.new_full((len(tokens) * most,), PAD_ID)
    read[place[is_word]] = tokens[:, :, :-1][is_word]
    read = read.view(len(tokens), most)
    inputs = conditioning.step_input(decoder.embed(read), read == START_ID, image)  # (B, K, I)

    lengths = is_word.sum(-1).flatten()
    lengths = functional.pad(lengths, (0, -len(lengths) % unit))
    lengths, rows = lengths.sort(descending=True, stable=True)  # captions, the longest first
    rows = rows.where(rows < len(tokens) * num_captions, 0)
    in_order = is_word.flatten(0, 1)[rows].t() & (lengths > 0)
    sizes = [_multiple(count, unit) for count in in_order.sum(1).tolist() if count]
    is_row = torch.arange(len(rows)) < torch.tensor(sizes).unsqueeze(-1)  # (T-1, R)
    is_own = in_order[: len(sizes)][is_row]  # (P,) not a caption that has ended
    steps = place.flatten(0, 1)[rows].t()[: len(sizes)][is_row].where(is_own, 0)  # (P,) places
    state = tuple(part.index_select(1, rows // num_captions) for part in decoder.first_state(image))
    outputs = run_packed(
        decoder.recurrent, inputs.flatten(0, 1).index_select(0, steps), state, sizes
    )

    back = torch.zeros_like(read).flatten()  # any step at padding
    back[steps[is_own]] = torch.arange(len(steps))[is_own]
    outputs = conditioning.output(outputs.index_select(0, back).unflatten(0, read.shape), image)
    words = outputs[torch.arange(most) < num_words.unsqueeze(-1)]  # (words, output_dim)
    return _predictions(decoder, words, tokens)


def _predictions(decoder: RecurrentDecoder, outputs: Tensor, tokens: Tensor) -> TeacherForced:
    """From what the vocabulary layer reads for each word to predict, caption after caption."""
    targets = tokens[:, :, 1:]
    is_word = targets != PAD_ID  # (B, N, T-1)
    logits = decoder.vocabulary_layer(decoder.output_dropout(outputs))
    return TeacherForced(logits, targets[is_word], is_word.flatten(0, 1).nonzero()[:, 0])


def _multiple(number: int, unit: int) -> int:
    """The next one of `unit`."""
    return number + -number % unit


@dataclass(frozen=True)
class _Rectangles:
    """Captions sorted by length, longest first: each image's, then images by their longest.

    The captions still unfinished at step t then lie in a rectangle (B_t, N_t), and nothing is
    computed for those that have ended, but for the rectangle's corner.

    Attributes:
        images: int64 (B,), where each image was in the batch.
        captions: int64 (B, N), the number b * N + n of each caption in the batch.
        tokens: int64 (B, N, T), sorted.
        shapes: (B_t, N_t) of each step.
    """

    images: Tensor
    captions: Tensor
    tokens: Tensor
    shapes: list[tuple[int, int]]

    @classmethod
    def of(cls, tokens: Tensor) -> _Rectangles:
        lengths = (tokens[:, :, 1:] != PAD_ID).sum(-1)  # (B, N) tokens to predict
        within = lengths.argsort(dim=1, descending=True, stable=True)
        lengths = lengths.gather(1, within)
        images = lengths[:, 0].argsort(descending=True, stable=True)
        captions = images.unsqueeze(-1) * tokens.shape[1] + within[images]
        tokens = tokens.gather(1, within.unsqueeze(-1).expand_as(tokens))[images]
        shapes = [(tokens.shape[0], tokens.shape[1])] * (tokens.shape[2] - 1)
        if not torch.compiler.is_compiling():  # a graph cannot depend on lengths
            on_cpu = lengths[images].cpu()
            shapes = [
                (int((on_cpu[:, 0] > t).sum()), int((on_cpu > t).sum(1).max()))
                for t in range(int(on_cpu.max()))
            ]
        return cls(images, captions, tokens, shapes)

    @property
    def sizes(self) -> list[int]:
        """B_t * N_t of each step."""
        return [rows * columns for rows, columns in self.shapes]

    def pack(self, values: Tensor, shift: int = 0) -> Tensor:
        """(B, N, T) to the rectangles of all steps one after another, from step `shift` on."""
        parts = [values[:r, :c, t + shift].flatten() for t, (r, c) in enumerate(self.shapes)]
        return torch.cat(parts)


def _by_step(decoder: RecurrentDecoder, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
    """Attention needs the state before its step; the rest is computed for all steps at once."""
    rectangles = _Rectangles.of(tokens)
    conditioning, num_captions = decoder.conditioning, tokens.shape[1]
    image = conditioning.prepare(features.select(rectangles.images))
    words = decoder.embed(rectangles.pack(rectangles.tokens)).split(rectangles.sizes)
    inputs = [
        conditioning.step_input(
            part.unflatten(0, (rows, columns)),
            rectangles.tokens[:rows, :columns, t] == START_ID,
            image.first(rows),
        ).flatten(0, 1)
        for t, ((rows, columns), part) in enumerate(zip(rectangles.shapes, words, strict=True))
    ]
    gates = decoder.recurrent.project(in_few_shapes(torch.cat(inputs)))
    gates = gates[: sum(rectangles.sizes)].split(rectangles.sizes)
    state = tuple(
        part.unsqueeze(2).expand(-1, -1, num_captions, -1) for part in decoder.first_state(image)
    )  # (L, B, N, H)
    outputs, attention = [], []
    with one_gradient_per_weight():
        for (rows, columns), part in zip(rectangles.shapes, gates, strict=True):
            state = tuple(values[:, :rows, :columns] for values in state)
            flat, weights = decoder.advance(part.unflatten(0, (rows, columns)), image, state)
            state = tuple(values.unflatten(1, (rows, columns)) for values in flat)
            assert weights is not None
            attention.append(weights.flatten(0, 1))
            output = conditioning.output(state[0][-1], image.first(rows))
            outputs.append(output.flatten(0, 1))
    targets = rectangles.pack(rectangles.tokens, shift=1)
    is_word = targets != PAD_ID  # not so in the rectangles' corners
    logits = decoder.vocabulary_layer(decoder.output_dropout(torch.cat(outputs)[is_word]))
    captions = rectangles.pack(rectangles.captions.unsqueeze(-1).expand_as(tokens))[is_word]
    return TeacherForced(logits, targets[is_word], captions, torch.cat(attention)[is_word])
