"""The images and captions of a data set, whatever files they came in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from captionlab.errors import DataError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class CaptionedImage:
    """A photo and what people wrote about it, unedited.

    Attributes:
        image_id: unique in its corpus.
        path: of the photo.
        captions: at least one.
    """

    image_id: str
    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionCorpus:
    """Images with captions, split by image.

    Attributes:
        name: of the data set.
        splits: the images of each split, in the order of the files.
        notes: what the reader left out, assumed or drew, a line each for people to read.
        train_limit: how many images of the training split are trained on; None for all.

    Raises:
        DataError: if it has no image, or one has no caption or is in two splits.
    """

    name: str
    splits: Mapping[Split, tuple[CaptionedImage, ...]]
    notes: tuple[str, ...] = ()
    train_limit: int | None = None

    def __post_init__(self) -> None:
        split_of: dict[str, Split] = {}
        for split in SPLITS:
            for image in self.splits[split]:
                if image.image_id in split_of:
                    where = " and ".join(sorted({split_of[image.image_id], split})) + " split"
                    raise DataError(
                        f"{self.name}: image {image.image_id} comes twice ({where}); "
                        "each image belongs to one split, once."
                    )
                if not image.captions:
                    raise DataError(f"{self.name}: image {image.image_id} has no caption.")
                split_of[image.image_id] = split
        if not split_of:
            raise DataError(f"{self.name} has no images.")

    def require(self, *splits: Split) -> None:
        """Make sure that these splits are not empty; some data sets have a test split alone.

        Raises:
            DataError: naming the split that is.
        """
        for split in splits:
            if not self.splits[split]:
                raise DataError(
                    f"{self.name}: the {split} split has no images; put some into it, or name "
                    "another data set or split."
                )

    @property
    def images(self) -> list[CaptionedImage]:
        """All images: training, validation, test."""
        return [image for split in SPLITS for image in self.splits[split]]

    @cached_property
    def training_images(self) -> tuple[CaptionedImage, ...]:
        """Those that are trained on, of the training split.

        Which ones depends on their ids alone, so that a larger limit adds images.
        """
        return first_by_id(self.splits["train"], self.train_limit)

    def references(self, split: Split) -> dict[str, list[str]]:
        """Image id to captions of a split."""
        return {image.image_id: list(image.captions) for image in self.splits[split]}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of ids, captions and splits, the same wherever the files lie."""
        content = {
            split: [[image.image_id, *image.captions] for image in self.splits[split]]
            for split in SPLITS
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def first_by_id(
    images: tuple[CaptionedImage, ...], count: int | None
) -> tuple[CaptionedImage, ...]:
    """The first `count` by a hash of their ids, in the order given; None for all."""
    if count is None:
        return images
    hashed = sorted(images, key=lambda image: hashlib.sha256(image.image_id.encode()).digest())
    chosen = {image.image_id for image in hashed[:count]}
    return tuple(image for image in images if image.image_id in chosen)
