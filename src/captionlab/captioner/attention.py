"""Attention maps of given captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from captionlab.captioner.captioner import Captioner
from captionlab.corpora import CaptionCorpus
from captionlab.search import attention_maps
from captionlab.types import Hypothesis


def caption_attention(
    captioner: Captioner, corpus: CaptionCorpus, captions: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Attention at each word of captions.

    Args:
        captioner: of a decoder that attends.
        corpus: has the images.
        captions: image id to words joined by spaces.

    Yields:
        Image id, and floating point (T, P) for T words, each row summing to 1.

    Raises:
        ValueError: if the decoder does not attend.
    """
    batches = captioner.features("attention", corpus, list(captions))
    for image_ids, features in batches:
        hypotheses = [
            Hypothesis(tuple(captioner.vocabulary.encode(captions[i].split())[1:-1]), 0, 0, False)
            for i in image_ids
        ]
        with captioner.autocast():
            maps = attention_maps(captioner.decoder, features, hypotheses)
        yield from zip(image_ids, (m.float().cpu() for m in maps), strict=True)
