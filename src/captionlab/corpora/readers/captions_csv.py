"""Comma-separated captions: the widespread form of Flickr8k, and the simplest for one's own."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.collected import Collected
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.splits import corpus_with_splits
from captionlab.corpora.readers.text import read_text
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

# What the columns are called; the second names are those of a Flickr30k table.
_IMAGE, _CAPTION, _SPLIT = ("image", "image_name"), ("caption", "comment"), ("split",)


def _columns(header: list[str]) -> tuple[int, int, int | None] | None:
    """Where image, caption and split stand; None if image or caption is not there."""
    names = [name.strip(' "\r').lower() for name in header]
    image, caption, split = (
        next((i for i, name in enumerate(names) if name in known), None)
        for known in (_IMAGE, _CAPTION, _SPLIT)
    )
    return None if image is None or caption is None else (image, caption, split)


def _fits(tree: Tree, path: Path) -> bool:
    first = tree.head(path).partition("\n")[0]
    return _columns(first.split(",")) is not None


def _read(tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    collected = Collected(path, "line", tree)
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(rows, [])
        columns = _columns(header)
        if columns is None:
            raise collected.error(
                1, f"expected the header image,caption[,split], found {','.join(header)[:60]!r}."
            )
        image, caption, split = columns
        for known in (_IMAGE, _CAPTION, _SPLIT):
            same = [name.strip() for name in header if name.strip(' "\r').lower() in known]
            if len(same) > 1:
                raise collected.error(
                    1,
                    f"{len(same)} columns hold the same ({', '.join(same)}); keep one, and write "
                    "one line per caption.",
                )
        for row in rows:
            number = rows.line_num
            if not row:
                continue
            if len(row) != len(header):
                raise collected.error(
                    number,
                    f"expected {len(header)} fields, found {len(row)}; write a caption with commas "
                    "in double quotes.",
                )
            given = None
            if split is not None:
                given = collected.split(number, row[split], options.use_restval)
                if given is None:
                    continue
            collected.row(number, row[image].strip(), row[caption], given)
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(
                f"{path}, line {rows.line_num}: a field has over {csv.field_size_limit():,} "
                "characters; a double quote is open before it, or the caption is too long."
            ) from error
        raise DataError(f"{path}, line {rows.line_num}: not comma-separated ({error}).") from error
    return corpus_with_splits(collected, options)


CSV = Dialect(
    name="csv",
    looks_for="captions.csv or captions.txt with a header image,caption[,split]",
    file_names=("captions.csv", "captions.txt"),
    suffixes=(".csv", ".txt"),
    fits=_fits,
    read=_read,
)
