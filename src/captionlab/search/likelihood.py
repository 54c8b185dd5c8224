"""What a model makes of given captions: their likelihood and its attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder
from captionlab.gradients import without_gradients
from captionlab.types import END_ID, PAD_ID, START_ID, Hypothesis, ImageFeatures

_MOST_TOKENS = 2**14  # padding counted, at once: each has a logit for every word


def caption_tokens(captions: Sequence[Sequence[Hypothesis]], device: torch.device | str) -> Tensor:
    """Captions as a decoder reads them, int64 (B, N, T), as in `CaptionBatch`.

    Args:
        captions: of B images, N each; an unfinished one gets no end token.
        device: of the tokens.
    """
    rows = [
        torch.tensor([START_ID, *caption.tokens, *([END_ID] if caption.finished else [])])
        for of_image in captions
        for caption in of_image
    ]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_ID)
    return padded.view(len(captions), len(captions[0]), -1).to(device)


class WordPredictions(NamedTuple):
    """What a decoder predicts at each of T tokens of a caption, its end among them if it has one.

    Attributes:
        log_probabilities: of the tokens, natural logarithm, float32 (T,).
        attention: floating point (T, P), each row summing to 1, P row by row; None for decoders
            that do not attend.
    """

    log_probabilities: Tensor
    attention: Tensor | None


@without_gradients
def word_predictions(
    decoder: Decoder, features: ImageFeatures, captions: Sequence[Hypothesis]
) -> list[WordPredictions]:
    """Probability of, and attention at, each word of captions.

    Args:
        decoder: in evaluation mode.
        features: of B images.
        captions: one for each image.
    """
    tokens = caption_tokens([[caption] for caption in captions], features.pooled.device)
    if tokens.shape[-1] == 1:  # no caption has a token to predict
        nothing = features.grid.new_zeros(0, features.grid.shape[1])
        none = WordPredictions(features.pooled.new_zeros(0), nothing if decoder.attends else None)
        return [none] * len(captions)
    logits, targets, numbers, attention = decoder(features, tokens)
    losses = functional.cross_entropy(logits.float(), targets, reduction="none")
    own = [numbers == i for i in range(len(captions))]
    return [WordPredictions(-losses[o], None if attention is None else attention[o]) for o in own]


@without_gradients
def attention_maps(
    decoder: Decoder, features: ImageFeatures, captions: Sequence[Hypothesis]
) -> list[Tensor]:
    """The attention of `word_predictions`.

    Raises:
        ValueError: if the decoder does not attend.
    """
    maps = [words.attention for words in word_predictions(decoder, features, captions)]
    if any(weights is None for weights in maps):
        raise ValueError("this decoder does not attend to positions: it has no attention maps.")
    return [weights for weights in maps if weights is not None]


@without_gradients
def caption_log_probabilities(
    decoder: Decoder, features: ImageFeatures, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability of given captions.

    Args:
        decoder: in evaluation mode.
        features: of B images.
        tokens: int64 (B, N, T), start .. end, then padding, as in `CaptionBatch`.

    Returns:
        The natural logarithm of each caption's probability, its end token counted, float32
        (B, N), 0 where a row is all padding; and the number of tokens predicted, int64 (B, N).
    """
    num_images, _, num_tokens = tokens.shape
    totals = []
    for part in tokens.split(max(1, _MOST_TOKENS // (num_images * num_tokens)), dim=1):
        total = torch.zeros(part.shape[:2], device=tokens.device)
        if (part[:, :, 1:] != PAD_ID).any():
            logits, targets, numbers, _ = decoder(features, part)
            losses = functional.cross_entropy(logits.float(), targets, reduction="none")
            total.view(-1).index_add_(0, numbers, -losses)
        totals.append(total)
    return torch.cat(totals, dim=1), (tokens[:, :, 1:] != PAD_ID).sum(-1)
