"""Which parts of a photo the words of a caption depend on, for any model, attending or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from captionlab.captioner.captioner import Captioner
from captionlab.features.source import EncoderFeatures
from captionlab.gradients import without_gradients
from captionlab.images.preprocessing import normalise
from captionlab.search import caption_tokens, word_predictions
from captionlab.types import Hypothesis

Method: TypeAlias = Literal["gradients", "occlusion"]
_GRID = 8  # rows and columns of a map
_COVERED = 2  # rows and columns of cells that the square hides


def saliency_maps(
    method: Method,
    captioner: Captioner,
    source: EncoderFeatures,
    pixels: Tensor,
    captions: Sequence[Hypothesis],
) -> list[Tensor]:
    """How much each word of captions depends on each part of their photos.

    Args:
        method: `gradients` or `occlusion`.
        captioner: of one run.
        source: of its features, loaded.
        pixels: of B photos, uint8 (B, 3, S, S).
        captions: one for each photo.

    Returns:
        Per caption, float32 (T, 8, 8) for T words and the end, on the CPU.
    """
    maps = {"gradients": _gradients, "occlusion": _occlusion}
    return maps[method](captioner, source, pixels, captions)


def _gradients(
    captioner: Captioner, source: EncoderFeatures, pixels: Tensor, captions: Sequence[Hypothesis]
) -> list[Tensor]:
    """Share of the gradient of a word's log-probability that falls on each cell.

    A pixel's gradient is the largest of its channels', without sign.

    Source: Simonyan et al. 2014, sec. 3.1, through encoder and decoder, of words given those
    before.
    """
    images = normalise(pixels.to(source.device), source.preprocessing).requires_grad_()
    # cuDNN's recurrent layers go back in training mode alone.
    with torch.enable_grad(), captioner.autocast(), torch.backends.cudnn.flags(enabled=False):
        features = source.encode_images(images)
        tokens = caption_tokens([[caption] for caption in captions], source.device)
        logits, targets, numbers, _ = captioner.decoder(features, tokens)
        losses = functional.cross_entropy(logits.float(), targets, reduction="none")
        own = [(numbers == i).nonzero().flatten() for i in range(len(captions))]
        maps: list[list[Tensor]] = [[] for _ in captions]
        for t in range(max(map(len, own))):  # photos do not touch each other: one pass for all
            rows = [i for i, losses_of in enumerate(own) if t < len(losses_of)]
            total = losses[torch.stack([own[i][t] for i in rows])].sum()
            (gradient,) = torch.autograd.grad(total, images, retain_graph=True)
            cells = functional.adaptive_avg_pool2d(gradient.abs().amax(1), _GRID).float().cpu()
            for i in rows:
                maps[i].append(cells[i] / cells[i].sum().clamp_min(1e-30))
    return [torch.stack(of_photo) for of_photo in maps]


@without_gradients
def _occlusion(
    captioner: Captioner, source: EncoderFeatures, pixels: Tensor, captions: Sequence[Hypothesis]
) -> list[Tensor]:
    """By how much a word's log-probability falls when a grey square hides a part of the photo.

    The square, a quarter of the photo wide, is moved over it; a cell has the mean of the squares
    that hide it. A negative value says that the word is likelier without the part.

    Source: Zeiler & Fergus 2014, sec. 4.2, of words given those before.
    """
    grey = (255 * torch.tensor(source.preprocessing.mean)).round().to(torch.uint8).view(3, 1, 1)
    edges = torch.linspace(0, pixels.shape[-1], _GRID + 1).round().int().tolist()
    places = [
        (row, column) for row in range(1 - _COVERED, _GRID) for column in range(1 - _COVERED, _GRID)
    ]
    maps = []
    for photo, caption in zip(pixels, captions, strict=True):
        variants = photo.repeat(1 + len(places), 1, 1, 1)
        for variant, (row, column) in zip(variants[1:], places, strict=True):
            top, bottom = edges[max(row, 0)], edges[min(row + _COVERED, _GRID)]
            left, right = edges[max(column, 0)], edges[min(column + _COVERED, _GRID)]
            variant[:, top:bottom, left:right] = grey
        rows = []
        for part in variants.split(source.batch_size):
            features = source.encode(part)
            with captioner.autocast():
                words = word_predictions(captioner.decoder, features, [caption] * len(part))
            rows += [word.log_probabilities.float().cpu() for word in words]
        falls = rows[0] - torch.stack(rows[1:])  # (squares, T)
        total = torch.zeros(len(rows[0]), _GRID, _GRID)
        count = torch.zeros(_GRID, _GRID)
        for fall, (row, column) in zip(falls, places, strict=True):
            hidden = (slice(max(row, 0), row + _COVERED), slice(max(column, 0), column + _COVERED))
            total[:, hidden[0], hidden[1]] += fall.view(-1, 1, 1)
            count[hidden] += 1
        maps.append(total / count)
    return maps
