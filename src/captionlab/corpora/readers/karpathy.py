"""Karpathy's JSON of Flickr8k, Flickr30k and COCO: captions and the splits that papers use.

Source: Karpathy & Fei-Fei 2015; layout of caption_datasets.zip.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.collected import Collected
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.text import parse_json, read_text
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

_FIRST_PHOTO = re.compile(r'"filename"\s*:\s*"([^"]+)"')


def _fits(tree: Tree, path: Path) -> bool:
    """Its photos must lie there too: the three files come in one archive."""
    head = tree.head(path)
    first = _FIRST_PHOTO.search(head)
    if first is None or '"sentences"' not in head or '"split"' not in head:
        return False
    folders = (f"{kind}{year}" for kind in ("train", "val") for year in (2014, 2017))
    names = _names("", first[1])
    return tree.photo(*names, *(f"{f}/{n}" for f in folders for n in names)) is not None


def _read(tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    content = parse_json(read_text(path), str(path))
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(f'{path}: expected {{"images": [...], "dataset": ...}} as Karpathy wrote.')
    collected = Collected(path, "image", tree, skip_empty=True)
    for number, entry in enumerate(entries, 1):
        name, split, captions = _fields(collected, number, entry)
        given = collected.split(number, split, options.use_restval)
        if given is None:
            continue
        folder = entry.get("filepath", "")
        image_id = str(entry["cocoid"]) if "cocoid" in entry else name
        photo = tree.photo(*_names(folder if isinstance(folder, str) else "", name))
        collected.image(number, image_id, photo, given, name)
        for caption in captions:
            collected.caption(number, image_id, caption)
    splits = collected.divide(lambda image: collected.images[image].split or "train")
    return CaptionCorpus(options.name, splits, tuple(collected.notes))


def _fields(collected: Collected, number: int, entry: Any) -> tuple[str, str, list[object]]:
    """File name, split and captions of an entry."""
    if isinstance(entry, dict):
        name, split, sentences = (entry.get(key) for key in ("filename", "split", "sentences"))
        if isinstance(name, str) and isinstance(split, str) and isinstance(sentences, list):
            return name, split, [s.get("raw") if isinstance(s, dict) else s for s in sentences]
    raise collected.error(
        number, f"expected filename, split and sentences, found {json.dumps(entry)[:60]}."
    )


def _names(folder: str, name: str) -> list[str]:
    """Where a photo may lie: in its folder, and under its name in COCO's release of 2017."""
    names = [f"{folder}/{name}", name] if folder else [name]
    number = name.rpartition("_")[2]
    if name.startswith("COCO_"):
        names += [f"train2017/{number}", f"val2017/{number}"]
    return names


KARPATHY = Dialect(
    name="karpathy",
    looks_for="dataset_flickr8k.json, dataset_flickr30k.json or dataset_coco.json with its photos",
    file_names=("dataset_*.json",),
    suffixes=(".json",),
    fits=_fits,
    read=_read,
    overrules=("coco2014", "coco2017", "flickr30k", "csv"),
)
