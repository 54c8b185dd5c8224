"""Images and captions of a file, collected and checked, and how they become a corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path

from captionlab.corpora.corpus import SPLITS, CaptionedImage, Split
from captionlab.corpora.readers.text import can_be_written
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

Splits = dict[Split, tuple[CaptionedImage, ...]]

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def draw(seed: int, image_id: str) -> float:
    """A number in [0, 1) that depends on seed and image alone, so that new images move no other."""
    digest = hashlib.sha256(f"{seed} {image_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def drawn_split(seed: int, image_id: str) -> Split:
    """Training of 80 %, validation of 10 %, test of 10 % of the images."""
    drawn = draw(seed, image_id)
    return "train" if drawn < 0.8 else "val" if drawn < 0.9 else "test"


@dataclass(slots=True)
class _Image:
    place: str  # where it was first named
    photo: Path | None
    split: Split | None
    captions: list[str] = field(default_factory=list)
    photo_name: str = ""  # of the file, where the image has another id


class Collected:
    """Images and captions of one file, checked as they come.

    Args:
        file: for errors; a release in two files changes it in between.
        unit: what its entries are called: "line", "image", ...
        tree: where its photos lie.
        skip_empty: leave empty captions out and count them; else they are an error.
    """

    def __init__(self, file: Path, unit: str, tree: Tree, skip_empty: bool = False) -> None:
        self.file = file
        self.unit = unit
        self.tree = tree
        self.skip_empty = skip_empty
        self.images: dict[str, _Image] = {}
        self.notes: list[str] = []
        self._empty: list[str] = []
        self._num_restval = 0
        self._joins: bool | None = None

    def error(self, number: int, problem: str, unit: str | None = None) -> DataError:
        """The error for an entry of the file."""
        return DataError(f"{self.file}, {unit or self.unit} {number}: {problem}")

    def split(self, number: int, name: object, use_restval: bool) -> Split | None:
        """The split that an entry names; None for `restval` where it is left out.

        Raises:
            DataError: if it is none.
        """
        if name == "restval":
            self._num_restval += 1
            self._joins = use_restval
            return "train" if use_restval else None
        split = SPLIT_NAMES.get(name.strip().lower()) if isinstance(name, str) else None
        if split is None:
            raise self.error(
                number, f"split {name!r:.60} is unknown; use train, restval, val or test."
            )
        return split

    def image(
        self,
        number: int,
        image_id: object,
        photo: Path | None,
        split: Split | None = None,
        photo_name: str = "",
    ) -> str:
        """Take a new image.

        Args:
            number: of the entry, from 1.
            image_id: of the corpus.
            photo: None if there is no such file.
            split: None if the file does not say.
            photo_name: of the file, where the image has another id.

        Raises:
            DataError: if the id is no text or occurs twice.
        """
        if not isinstance(image_id, str) or not image_id or not can_be_written(image_id):
            raise self.error(number, f"expected the name of an image, found {image_id!r:.60}.")
        if image_id in self.images:
            raise self.error(
                number, f"image {image_id!r} is already at {self.images[image_id].place}; keep one."
            )
        place = f"{self.file}, {self.unit} {number}"
        self.images[image_id] = _Image(place, photo, split, photo_name=photo_name)
        return image_id

    def caption(self, number: int, image_id: str, caption: object, unit: str | None = None) -> None:
        """Take a caption of an image that was taken, as it is.

        Raises:
            DataError: if it is no text, or empty.
        """
        if not isinstance(caption, str) or not can_be_written(caption):
            raise self.error(
                number, f"expected a caption for {image_id!r}, found {caption!r:.60}.", unit
            )
        if not caption or caption.isspace():
            if not self.skip_empty:
                raise self.error(number, f"the caption of {image_id} is empty.", unit)
            self._empty.append(image_id)
            return
        self.images[image_id].captions.append(caption)

    def row(self, number: int, image_id: str, caption: object, split: Split | None = None) -> None:
        """Take a caption and, if it is new, its image, whose id is its photo's name.

        Raises:
            DataError: as `image` and `caption`, and if the image has another split elsewhere.
        """
        if image_id not in self.images:
            self.image(number, image_id, self.tree.photo(image_id), split)
        known = self.images[image_id]
        if known.split != split:
            raise self.error(
                number,
                f"{image_id} has split {split!r} here and {known.split!r} before ({known.place}); "
                "an image belongs to one split.",
            )
        self.caption(number, image_id, caption)

    def divide(self, split_of: Callable[[str], Split]) -> Splits:
        """All images by split, in the order of the file.

        Raises:
            DataError: if there is none, a photo is missing, or an image has no caption.
        """
        if not self.images:
            raise DataError(f"{self.file} names no image; expected images with captions.")
        return self.gather((split_of(image), image) for image in self.images)

    def gather(self, chosen: Iterable[tuple[Split, str]]) -> Splits:
        """These images by split, in their order; says in `notes` what was left out.

        Raises:
            DataError: if a photo is missing or an image has no caption.
        """
        splits: dict[Split, list[CaptionedImage]] = {split: [] for split in SPLITS}
        missing: list[str] = []
        folders: set[Path] = set()
        for split, image_id in chosen:
            image = self.images[image_id]
            if not image.captions:
                raise DataError(f"{image.place}: image {image_id} has no caption.")
            if image.photo is None and not self.tree.needs_photos:
                image.photo = self.tree.root / image_id  # where one would expect it
            if image.photo is None:
                missing.append(image_id)
                continue
            folders.add(image.photo.parent)
            splits[split].append(CaptionedImage(image_id, image.photo, tuple(image.captions)))
        if missing:
            first = self.images[missing[0]]
            name = first.photo_name or missing[0]
            similar = self.tree.other_case(name)
            advice = f"name it as {similar}, or " if similar else ""
            raise DataError(
                f"{first.place}: photo {name} is missing "
                f"({len(missing)} of {len(self.images)} are); {advice}"
                f"unpack all photos below {self.tree.root}."
            )
        self._note(folders)
        return {split: tuple(images) for split, images in splits.items()}

    def _note(self, folders: Set[Path]) -> None:
        """Say what photos, of the folders used, and what captions there are besides."""
        known = sum(
            image.photo is not None and image.photo.parent in folders
            for image in self.images.values()
        )
        skipped = 0 if self._joins else self._num_restval  # left out, and noted below
        uncaptioned = sum(map(self.tree.num_photos, folders)) - known - skipped
        if uncaptioned > 0:
            self.notes.append(f"{uncaptioned} more photos lie beside, without captions: left out")
        if self._num_restval:
            done = "joined training" if self._joins else "left out"
            self.notes.append(f"{self._num_restval} entries of split restval: {done}")
        if self._empty:
            self.notes.append(
                f"{len(self._empty)} captions are empty ({self._empty[0]}, ...): left out"
            )
