"""A part of a corpus, for a quick trial."""

from __future__ import annotations

from dataclasses import replace

from captionlab.corpora.corpus import SPLITS, CaptionCorpus, Split, first_by_id

_EVALUATED = 0.1  # least share of the validation and of the test split: fewer images say little


def limited(
    corpus: CaptionCorpus, limit: int | None, train_limit: int | None = None
) -> CaptionCorpus:
    """A part of a corpus, whose notes say so.

    At most `limit` images: splits keep their proportions, but validation and test get a tenth each
    where they have it. Which images are used depends on their ids alone, so that a larger limit
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
    counts: dict[Split, int] = {}
    for split in ("val", "test"):
        size = len(corpus.splits[split])
        counts[split] = min(size, round(limit * max(size / num_images, _EVALUATED)))
    counts["train"] = min(len(corpus.splits["train"]), limit - sum(counts.values()))
    splits = {split: first_by_id(corpus.splits[split], counts[split]) for split in SPLITS}
    parts = ", ".join(f"{counts[split]} of {split}" for split in SPLITS)
    note = f"{sum(counts.values())} of {num_images} images are used ({parts}): data.limit={limit}"
    name = f"{corpus.name}-limit-{limit}"
    return replace(corpus, name=name, splits=splits, notes=(*corpus.notes, note))
