"""COCO captions as the organisers give them, of 2014 and of 2017.

Source: Chen et al. 2015; layout of annotations_trainval2014.zip and annotations_trainval2017.zip.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from captionlab.corpora.corpus import CaptionCorpus, Split
from captionlab.corpora.readers.collected import Collected, Splits, draw
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.lists import divide_by_lists, find_lists
from captionlab.corpora.readers.text import parse_json, read_text
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

# Of the official training images: about 5,900 of 2017, as many as others validate on.
_VALIDATION_SHARE = 0.05


def _fits(year: int, tree: Tree, path: Path) -> bool:
    head = tree.head(path)
    shaped = '"file_name"' in head or '"annotations"' in head
    return shaped and path.name in _file_names(year)


def _file_names(year: int) -> tuple[str, str]:
    return f"captions_train{year}.json", f"captions_val{year}.json"


def _read(year: int, tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    lists = find_lists(tree)
    present = [path.parent / name for name in _file_names(year)]
    collected = Collected(path, "image", tree, skip_empty=True)
    origin: dict[str, str] = {}  # image to the official split
    names: dict[str, str] = {}  # file name to image
    for official, file in zip(("train", "val"), present, strict=True):
        if file.is_file():
            collected.file = file
            _collect(collected, f"{official}{year}", names)
            for image in collected.images:
                origin.setdefault(image, official)
    notes = collected.notes
    if lists is not None:
        stems = {Path(name).stem: image for name, image in names.items()}
        splits = divide_by_lists(collected, lists, stems | names)
    else:
        splits = _official(collected, origin, options.split_seed)
        if "val" in origin.values():
            notes.append(f"COCO's test captions are not public: official val{year} is test here")
        if "train" in origin.values():
            notes.append(
                f"{len(splits['val'])} images of official train{year} are validation here, "
                f"drawn by image with data.split_seed={options.split_seed}"
            )
    return CaptionCorpus(options.name, splits, tuple(notes))


def _official(collected: Collected, origin: dict[str, str], seed: int) -> Splits:
    def split_of(image: str) -> Split:
        if origin[image] == "val":
            return "test"
        return "val" if draw(seed, image) < _VALIDATION_SHARE else "train"

    return collected.divide(split_of)


def _collect(collected: Collected, folder: str, names: dict[str, str]) -> None:
    path, tree = collected.file, collected.tree
    content = parse_json(read_text(path), str(path))
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise DataError(
            f'{path}: expected {{"images": [...], "annotations": [...]}} as COCO has it.'
        )
    for number, entry in enumerate(content["images"], 1):
        image, name = _pair(collected, number, "image", entry, "id", "file_name")
        if not isinstance(name, str):
            raise collected.error(number, f"expected a file_name, found {name!r:.60}.")
        collected.image(number, str(image), tree.photo(f"{folder}/{name}", name), None, name)
        names[name] = str(image)
    earlier: set[int] = set()
    for number, entry in enumerate(content["annotations"], 1):
        image, caption = _pair(collected, number, "annotation", entry, "image_id", "caption")
        image_id, annotation_id = str(image), entry.get("id")
        if image_id not in collected.images:
            raise collected.error(
                number, f"image_id {image} is not among the images.", unit="annotation"
            )
        if isinstance(annotation_id, int):
            if annotation_id in earlier:
                raise collected.error(
                    number, f"id {annotation_id} occurs twice; keep one.", unit="annotation"
                )
            earlier.add(annotation_id)
        collected.caption(number, image_id, caption, unit="annotation")


def _pair(
    collected: Collected, number: int, unit: str, entry: Any, id_key: str, text_key: str
) -> tuple[int, object]:
    if isinstance(entry, dict):
        number_id = entry.get(id_key)
        if isinstance(number_id, int) and not isinstance(number_id, bool):
            return number_id, entry.get(text_key)
    raise collected.error(
        number, f"expected {id_key} and {text_key}, found {json.dumps(entry)[:60]}.", unit=unit
    )


def _coco(year: int) -> Dialect:
    train, val = _file_names(year)
    return Dialect(
        name=f"coco{year}",
        looks_for=f"{train} and {val}",
        file_names=(train, val),
        suffixes=(".json",),
        fits=partial(_fits, year),
        read=partial(_read, year),
    )


COCO2014, COCO2017 = _coco(2014), _coco(2017)
