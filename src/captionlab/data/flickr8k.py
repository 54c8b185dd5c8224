"""The original release of Flickr8k: a token file, three lists of images, the photos.

Source: Hodosh, Young & Hockenmaier 2013; layout of Flickr8k_text.zip and Flickr8k_Dataset.zip.
"""

from __future__ import annotations

import re
from pathlib import Path

from captionlab.data.corpus import CaptionCorpus, CaptionedImage, Split
from captionlab.errors import DataError

_TEXT_FOLDERS = ("", "text", "Flickr8k_text")
_PHOTO_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "")
_TOKEN_FILE = "Flickr8k.token.txt"
_LISTS: dict[Split, str] = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_LINE = re.compile(r"(?P<image>[^\t#]+)#(?P<number>\d+)\t(?P<caption>.*)")


def read_flickr8k(root: Path, name: str = "flickr8k") -> CaptionCorpus:
    """Read the release below `root`; text and photos may lie in the folders it came in.

    Raises:
        DataError: if a file or a listed photo is missing, or a line is not of its format.
    """
    text = _find_text(root)
    captions = _read_captions(text / _TOKEN_FILE)
    photos = _find_photos(root)
    present = {path.name for path in photos.iterdir()}
    splits: dict[Split, tuple[CaptionedImage, ...]] = {}
    for split, file in _LISTS.items():
        images = [line.strip() for line in read_lines(text / file) if line.strip()]
        for number, image in enumerate(images, 1):
            if image not in captions:
                raise DataError(
                    f"{text / file}, image {number}: {image!r} has no captions in {_TOKEN_FILE}; "
                    "expected one photo's file name per line."
                )
            if image not in present:
                raise DataError(
                    f"photo {photos / image} is missing (image {number} of {file}); "
                    "unpack all photos of the release."
                )
        splits[split] = tuple(
            CaptionedImage(image, photos / image, tuple(captions[image])) for image in images
        )
    without_photo = sorted(captions.keys() - present)
    listed = {image.image_id for images in splits.values() for image in images}
    unlisted = len(captions.keys() - listed - set(without_photo))
    notes = []
    if without_photo:
        notes.append(
            f"{len(without_photo)} caption ids have no photo and are in no list "
            f"({', '.join(without_photo[:3])}): left out"
        )
    if unlisted:
        notes.append(f"{unlisted} captioned photos are in no list: left out")
    return CaptionCorpus(name, splits, tuple(notes))


def _find_text(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(
            f"data.root={root} is not a folder; set data.root to the folder of the data set."
        )
    for folder in _TEXT_FOLDERS:
        if (root / folder / _TOKEN_FILE).is_file():
            for file in _LISTS.values():
                if not (root / folder / file).is_file():
                    raise DataError(
                        f"split file {root / folder / file} is missing; the original release has "
                        f"{', '.join(_LISTS.values())} beside {_TOKEN_FILE}."
                    )
            return root / folder
    looked = ", ".join(str(root / folder) for folder in _TEXT_FOLDERS)
    raise DataError(
        f"data.root={root}: {_TOKEN_FILE} was not found (looked in {looked}); "
        "set data.root to the folder of the original release."
    )


def _find_photos(root: Path) -> Path:
    for folder in _PHOTO_FOLDERS:
        photos = root / folder
        if photos.is_dir() and next(photos.glob("*.jpg"), None) is not None:
            return photos
    looked = ", ".join(str(root / folder) for folder in _PHOTO_FOLDERS)
    raise DataError(f"data.root={root}: no photos (*.jpg) were found; looked in {looked}.")


def _read_captions(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{path}, line {number}: expected 'IMAGE.jpg#NUMBER<tab>CAPTION', "
                f"found {line[:60]!r}."
            )
        if not match["caption"].strip():
            raise DataError(f"{path}, line {number}: the caption of {match['image']} is empty.")
        captions.setdefault(match["image"], []).append(match["caption"])
    if not captions:
        raise DataError(f"{path} is empty; expected lines 'IMAGE.jpg#NUMBER<tab>CAPTION'.")
    return captions


def read_lines(path: Path) -> list[str]:
    """Lines without their ends; a byte order mark and CRLF are tolerated.

    Raises:
        DataError: if the file is not UTF-8, with the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text ({error.reason}).") from error
    return [line.removesuffix("\r") for line in text.split("\n")]
