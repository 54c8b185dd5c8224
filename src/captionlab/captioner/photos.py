"""Captions of photos that belong to no data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from captionlab.captioner.captioner import Captioner
from captionlab.errors import ConfigError
from captionlab.features.source import EncoderFeatures
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.search import attention_maps

_BATCH_SIZE = 16  # photos


@dataclass(frozen=True)
class CaptionedPhoto:
    """What a model says about a photo.

    Attributes:
        path: of the photo.
        pixels: as the encoder saw them, uint8 (3, S, S).
        captions: text and log-probability, best first.
        words: of the best.
        attention: weights for each of these, floating point (T, P); None unless asked for.
        grid_size: rows and columns of the P positions.
    """

    path: Path
    pixels: Tensor
    captions: list[tuple[str, float]]
    words: list[str]
    attention: Tensor | None
    grid_size: tuple[int, int]


def caption_photos(
    captioner: Captioner, photos: Sequence[Path], num_captions: int, with_attention: bool
) -> Iterator[CaptionedPhoto]:
    """Captions of photos, by the captioner's search.

    Args:
        captioner: of one run.
        photos: files.
        num_captions: the most for each photo; more than one are those of a beam search.
        with_attention: whether to tell where the model looked.

    Raises:
        DataError: if a photo cannot be read.
        ConfigError: if the search does not give so many captions, or the model has no attention.
    """
    search, decoder, source = captioner.search, captioner.decoder, captioner.source
    assert isinstance(source, EncoderFeatures)
    if num_captions > search.max_captions:
        raise ConfigError(
            f"--n-best {num_captions} is more than the search gives ({search.max_captions}); use "
            f"--set search.beam_size={num_captions} on a run with search=beam."
        )
    plain = [(path, None) for path in photos]
    batches = pixel_batches(Photos(plain, source.preprocessing), _BATCH_SIZE, num_workers=0)
    remaining = iter(photos)
    for pixels in batches:
        features = source.encode(pixels)
        with captioner.autocast():
            if num_captions > 1:
                hypotheses = search.n_best(decoder, features)
            else:
                hypotheses = [[best] for best in search(decoder, features)]
            maps: Sequence[Tensor | None] = [None] * len(hypotheses)
            if with_attention:
                if not decoder.attends:
                    raise ConfigError(
                        "--attention: this model does not look at positions; use a run with "
                        "conditioning=attention or dot_attention."
                    )
                maps = attention_maps(decoder, features, [ranked[0] for ranked in hypotheses])
        rows = zip(remaining, pixels, hypotheses, maps, strict=False)
        for path, photo, ranked, attention in rows:
            texts = [
                (captioner.vocabulary.decode(hypothesis.tokens), hypothesis.log_probability)
                for hypothesis in ranked[:num_captions]
            ]
            words = [captioner.vocabulary.decode([token]) for token in ranked[0].tokens]
            if attention is not None:
                attention = attention[: len(words)]  # not of the end
            yield CaptionedPhoto(
                path, photo, texts, words, attention, source.feature_shape.grid_size
            )
