"""A part of a corpus, for a quick trial."""

from __future__ import annotations

from dataclasses import replace

from captionlab.corpora.corpus import SPLITS, CaptionCorpus, Split, first_by_id

_LEAST_SHARE, _LEAST = 0.1, 2  # of a split: fewer images say little, and one has no CIDEr-D


def limited(
    corpus: CaptionCorpus, limit: int | None, train_limit: int | None = None
) -> CaptionCorpus:
    """A part of a corpus, whose notes say so.

    At most `limit` images: splits keep their proportions, but each gets a tenth where it has it;
    the largest makes room. Which images are used depends on their ids alone, so that a larger limit
    adds images. The name changes, since the scores are not those of the whole.

    Args:
        corpus: any.
        limit: number of images of all splits; None for all.
        train_limit: number of images of the training split that are trained on; None for all.
    """
    part = _limited(corpus, limit)
    if train_limit is None:
        return part
    part = replace(part, train_limit=train_limit)
    used, there = len(part.training_images), len(part.splits["train"])
    note = f"{used} of {there} training images are used: data.train_limit={train_limit}"
    return replace(part, notes=(*part.notes, note))


def _limited(corpus: CaptionCorpus, limit: int | None) -> CaptionCorpus:
    num_images = len(corpus.images)
    if limit is None or limit >= num_images:
        return corpus
    sizes = {split: len(corpus.splits[split]) for split in SPLITS}
    counts: dict[Split, int] = {
        split: min(size, max(_LEAST, round(limit * max(size / num_images, _LEAST_SHARE))))
        for split, size in sizes.items()
    }
    largest = max(SPLITS, key=sizes.__getitem__)
    others = sum(counts.values()) - counts[largest]
    counts[largest] = min(sizes[largest], limit - others)
    splits = {split: first_by_id(corpus.splits[split], counts[split]) for split in SPLITS}
    parts = ", ".join(f"{counts[split]} of {split}" for split in SPLITS)
    note = f"{sum(counts.values())} of {num_images} images are used ({parts}): data.limit={limit}"
    name = f"{corpus.name}-limit-{limit}"
    return replace(corpus, name=name, splits=splits, notes=(*corpus.notes, note))
