"""Captions as JSON lines, for one's own photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from captionlab.corpora.corpus import CaptionCorpus, Split
from captionlab.corpora.readers.collected import Collected
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.splits import corpus_with_splits
from captionlab.corpora.readers.text import parse_json, read_lines
from captionlab.corpora.readers.tree import Tree

_FORM = '{"image": ..., "caption" or "captions": ...[, "split": ...]}'


def _fits(tree: Tree, path: Path) -> bool:
    first = tree.head(path).lstrip().partition("\n")[0]
    try:
        entry = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "image" in entry and bool({"caption", "captions"} & {*entry})


def _read(tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    collected = Collected(path, "line", tree)
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            entry = parse_json(line, f"{path}, line {number}")
            _take(collected, number, entry, options.use_restval)
    return corpus_with_splits(collected, options)


def _take(collected: Collected, number: int, entry: Any, use_restval: bool) -> None:
    image = entry.get("image") if isinstance(entry, dict) else None
    captions = entry.get("captions", [entry.get("caption")]) if isinstance(image, str) else None
    if not isinstance(image, str) or not isinstance(captions, list) or not captions:
        raise collected.error(number, f"expected {_FORM}, found {json.dumps(entry)[:60]}.")
    split: Split | None = None
    if entry.get("split") is not None:
        split = collected.split(number, entry["split"], use_restval)
        if split is None:
            return
    for caption in captions:
        collected.row(number, image, caption, split)


JSONL = Dialect(
    name="jsonl",
    looks_for=f"captions.jsonl with lines {_FORM}",
    file_names=("captions.jsonl",),
    suffixes=(".jsonl",),
    fits=_fits,
    read=_read,
)
