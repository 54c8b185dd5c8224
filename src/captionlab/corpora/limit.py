"""A part of a corpus, for a quick trial."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from captionlab.corpora.corpus import SPLITS, CaptionCorpus, CaptionedImage, Split

_EVALUATED = 0.1  # least share of the validation and of the test split: fewer images say little


def limited(corpus: CaptionCorpus, limit: int | None) -> CaptionCorpus:
    """At most `limit` images of a corpus, which says in its name and notes that it is a part.

    Splits keep their proportions, but validation and test get a tenth each where they have it.
    Which images are used depends on their ids alone, so that a larger limit adds images.

    Args:
        corpus: any.
        limit: number of images of all splits; None for all.
    """
    num_images = len(corpus.images)
    if limit is None or limit >= num_images:
        return corpus
    counts: dict[Split, int] = {}
    for split in ("val", "test"):
        size = len(corpus.splits[split])
        counts[split] = min(size, round(limit * max(size / num_images, _EVALUATED)))
    counts["train"] = min(len(corpus.splits["train"]), limit - sum(counts.values()))
    splits = {split: _first(corpus.splits[split], counts[split]) for split in SPLITS}
    parts = ", ".join(f"{counts[split]} of {split}" for split in SPLITS)
    note = f"{sum(counts.values())} of {num_images} images are used ({parts}): data.limit={limit}"
    name = f"{corpus.name}-limit-{limit}"  # its scores are not those of the whole
    return replace(corpus, name=name, splits=splits, notes=(*corpus.notes, note))


def _first(images: tuple[CaptionedImage, ...], count: int) -> tuple[CaptionedImage, ...]:
    """The first by a hash of their ids, in the order of the corpus."""
    hashed = sorted(images, key=lambda image: hashlib.sha256(image.image_id.encode()).digest())
    chosen = {image.image_id for image in hashed[:count]}
    return tuple(image for image in images if image.image_id in chosen)
