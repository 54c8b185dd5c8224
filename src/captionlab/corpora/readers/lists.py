"""Lists of images, one file per split, that lie beside captions."""

from __future__ import annotations

from pathlib import Path

from captionlab.corpora.corpus import Split
from captionlab.corpora.readers.collected import Collected, Splits
from captionlab.corpora.readers.text import read_lines
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

FLICKR8K_LISTS: dict[Split, str] = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def _called(val: str) -> dict[Split, str]:
    return {"train": "train.txt", "val": f"{val}.txt", "test": "test.txt"}


_LISTS: tuple[dict[Split, str], ...] = (
    FLICKR8K_LISTS,
    *map(_called, ("val", "dev", "valid", "validation")),  # val.txt: Flickr30k Entities
    {split: f"karpathy_{split}_images.txt" for split in ("train", "val", "test")},
)


def find_lists(tree: Tree) -> dict[Split, Path] | None:
    """The first known set of lists that is whole, its files in one folder; None if there is none.

    Raises:
        DataError: if such a set is there in part.
    """
    by_folder: dict[Path, dict[str, Path]] = {}
    for path in tree.files((".txt",)):
        by_folder.setdefault(path.parent, {})[path.name] = path
    partly: str | None = None
    for names in _LISTS:
        for files in by_folder.values():
            lists = {split: files[name] for split, name in names.items() if name in files}
            if len(lists) == len(names):
                return lists
            # One file alone may be anything, unless a release calls it so.
            if lists and partly is None and (names is FLICKR8K_LISTS or len(lists) > 1):
                missing = next(name for split, name in names.items() if split not in lists)
                partly = (
                    f"split file {missing} is missing beside {next(iter(lists.values()))}; give "
                    f"{', '.join(names.values())}, or none of them to have splits drawn."
                )
    if partly is not None:
        raise DataError(partly)
    return None


def divide_by_lists(
    collected: Collected, lists: dict[Split, Path], aliases: dict[str, str] | None = None
) -> Splits:
    """Split as the lists say, in their order; an image in no list is left out with a note.

    Args:
        collected: images and captions.
        lists: file of each split, one image per line: its id, with or without extension; of an id
            without spaces more may follow, after a space.
        aliases: other names of images, to their ids.

    Raises:
        DataError: if a list is empty, or names an image that has no captions or no photo.
    """
    names = {Path(image).stem: image for image in collected.images}
    names |= (aliases or {}) | {image: image for image in collected.images}
    chosen: list[tuple[Split, str]] = []
    for split, path in lists.items():
        lines = [(n, line.strip()) for n, line in enumerate(read_lines(path), 1) if line.strip()]
        if not lines:
            raise DataError(f"{path} is empty; expected one photo's file name per line.")
        for number, line in lines:
            image = names.get(line) or names.get(line.split()[0])
            if image is None:
                raise DataError(
                    f"{path}, line {number}: {line!r:.60} has no captions in "
                    f"{collected.file.name}; expected one photo's file name per line."
                )
            chosen.append((split, image))
    splits = collected.gather(chosen)
    unlisted = collected.images.keys() - {image for _, image in chosen}
    lost = sorted(image for image in unlisted if collected.images[image].photo is None)
    if lost:
        collected.notes.append(
            f"{len(lost)} caption ids have no photo and are in no list "
            f"({', '.join(lost[:3])}): left out"
        )
    if len(unlisted) > len(lost):
        collected.notes.append(
            f"{len(unlisted) - len(lost)} captioned photos are in no list: left out"
        )
    return splits
