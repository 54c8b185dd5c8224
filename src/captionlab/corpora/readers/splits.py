"""Splits of the user's own data: from the rows, from lists beside them, or drawn."""

from __future__ import annotations

from captionlab.corpora.corpus import CaptionCorpus, Split
from captionlab.corpora.readers.collected import Collected, drawn_split
from captionlab.corpora.readers.dialect import Options
from captionlab.corpora.readers.lists import divide_by_lists, find_lists
from captionlab.errors import DataError


def corpus_with_splits(collected: Collected, options: Options) -> CaptionCorpus:
    """The corpus of collected rows.

    Raises:
        DataError: if some images have a split and some have none; and as `Collected.divide`.
    """
    given: dict[str, Split] = {}
    for image_id, image in collected.images.items():
        if image.split is not None:
            given[image_id] = image.split
    if given:
        for image_id, image in collected.images.items():
            if image.split is None:
                raise DataError(
                    f"{image.place}: image {image_id} has no split, and others have; give all of "
                    "them one, or none."
                )
        splits = collected.divide(given.__getitem__)
    elif lists := find_lists(collected.tree):
        splits = divide_by_lists(collected, lists)
    else:
        splits = collected.divide(lambda image: drawn_split(options.split_seed, image))
        collected.notes.append(
            "no split is given: 80/10/10 % drawn by image with "
            f"data.split_seed={options.split_seed}"
        )
    return CaptionCorpus(options.name, splits, tuple(collected.notes))
