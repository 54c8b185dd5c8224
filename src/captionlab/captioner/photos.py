"""Captions of photos that belong to no data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from captionlab.captioner.captioner import TrainedModel
from captionlab.config import build
from captionlab.errors import ConfigError
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.search import BeamSearch, attention_maps
from captionlab.types import Hypothesis

_BATCH_SIZE = 16  # photos


@dataclass(frozen=True)
class CaptionedPhoto:
    """What a model says about a photo.

    Attributes:
        path: of the photo.
        pixels: as the encoder saw them, uint8 (3, S, S).
        captions: text and log-probability, best first.
        words: of the best, `<end>` last if the model wrote it.
        attention: where it looked for each of these, floating point (T, P); None unless asked for.
    """

    path: Path
    pixels: Tensor
    captions: list[tuple[str, float]]
    words: list[str]
    attention: Tensor | None


def caption_photos(
    model: TrainedModel, photos: Sequence[Path], num_captions: int, with_attention: bool
) -> Iterator[CaptionedPhoto]:
    """Captions of photos, by the run's search.

    Args:
        model: of a finished run.
        photos: files.
        num_captions: the most for each photo; more than one are those of a beam search.
        with_attention: whether to tell where the model looked.

    Raises:
        DataError: if a photo cannot be read.
        ConfigError: if the search does not have so many captions, or the model no attention.
    """
    search = build.build_search(model.config, model.vocabulary)
    if num_captions > 1 and not (
        isinstance(search, BeamSearch) and num_captions <= search.beam_size
    ):
        raise ConfigError(
            f"--n-best {num_captions} needs a beam search that is as wide, found "
            f"search={model.config.search.name}, beam_size={model.config.search.get('beam_size')}; "
            f"use --set search.beam_size={num_captions} on a run with search=beam."
        )
    told = [(path, None) for path in photos]
    batches = pixel_batches(Photos(told, model.encoder.preprocessing), _BATCH_SIZE, num_workers=0)
    remaining = iter(photos)
    for pixels in batches:
        features = model.encode(pixels)
        with model.autocast():
            if num_captions > 1 and isinstance(search, BeamSearch):
                found = search.n_best(model.decoder, features)
            else:
                found = [[each] for each in search(model.decoder, features)]
            maps: Sequence[Tensor | None] = [None] * len(found)
            if with_attention:
                try:
                    maps = attention_maps(model.decoder, features, [each[0] for each in found])
                except ValueError as error:
                    raise ConfigError(
                        f"--attention: conditioning={model.config.conditioning.name} does not "
                        "look at positions; use a run with attention or dot_attention."
                    ) from error
        for path, seen, captions, attention in zip(remaining, pixels, found, maps, strict=False):
            texts = [
                (model.vocabulary.decode(each.tokens), each.log_probability)
                for each in captions[:num_captions]
            ]
            yield CaptionedPhoto(path, seen, texts, _words(model, captions[0]), attention)


def _words(model: TrainedModel, caption: Hypothesis) -> list[str]:
    words = [model.vocabulary.decode([token]) for token in caption.tokens]
    return [*words, "<end>"] if caption.finished else words
