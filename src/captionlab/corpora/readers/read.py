"""One function that reads whatever people downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.captions_csv import CSV
from captionlab.corpora.readers.captions_jsonl import JSONL
from captionlab.corpora.readers.coco import COCO2014, COCO2017
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.flickr8k import FLICKR8K
from captionlab.corpora.readers.flickr30k import FLICKR30K
from captionlab.corpora.readers.karpathy import KARPATHY
from captionlab.corpora.readers.parquet import PARQUET
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (FLICKR8K, FLICKR30K, KARPATHY, COCO2014, COCO2017, PARQUET, CSV, JSONL)
}


def read_corpus(
    root: Path,
    dialect: str = "auto",
    name: str | None = None,
    *,
    split_seed: int = 0,
    use_restval: bool = True,
    unpack_dir: Path | None = None,
) -> CaptionCorpus:
    """Read the data set below `root`, in whatever dialect it is.

    Args:
        root: its folder; captions lie in it or in a folder of it, photos at most two folders deep.
        dialect: one of `DIALECTS`, or `auto` to tell it by the content of the files, and where
            none fits by their names.
        name: of the corpus; None for the folder's.
        split_seed: of splits that are drawn where none is given.
        use_restval: whether the images that Karpathy calls `restval` join training; else they are
            left out.
        unpack_dir: gets the photos that lie in tables; None for a folder in `root`.

    Raises:
        DataError: if no dialect fits, or several; if a file is damaged, a photo is missing, or an
            image is in two splits.
    """
    if dialect != "auto" and dialect not in DIALECTS:
        raise DataError(f"data.dialect={dialect} is unknown; use auto, {', '.join(DIALECTS)}.")
    tree = Tree(root)
    options = Options(
        name=root.resolve().name if name is None else name,
        split_seed=split_seed,
        use_restval=use_restval,
        unpack_dir=root / ".photos" if unpack_dir is None else unpack_dir,
    )
    found, path, note = _find(tree, dialect)
    corpus = found.read(tree, path, options)
    return replace(corpus, notes=(*corpus.notes, note)) if note else corpus


def _find(tree: Tree, name: str) -> tuple[Dialect, Path, str | None]:
    """The dialect, its file, and what was passed over."""
    asked = list(DIALECTS.values()) if name == "auto" else [DIALECTS[name]]
    fitting = {d.name: path for d in asked if (path := d.find(tree))}
    if not fitting:
        fitting = {d.name: path for d in asked if (path := d.find_by_name(tree))}
    overruled = [
        other for each in fitting for other in DIALECTS[each].overrules if other in fitting
    ]
    left = [each for each in fitting if each not in overruled]
    if not left:
        looked = "; ".join(f"{d.name}: {d.looks_for}" for d in asked)
        raise DataError(
            f"data.root={tree.root}: no captions were found in it or its folders; looked for "
            f"{looked}."
        )
    if len(left) > 1:
        told = ", ".join(f"{each} ({fitting[each]})" for each in left)
        raise DataError(
            f"data.root={tree.root}: several dialects fit: {told}; choose by data.dialect."
        )
    note = None
    if overruled:
        told = ", ".join(
            sorted({f"{fitting[each].name} (data.dialect={each})" for each in overruled})
        )
        note = f"{fitting[left[0]].name} was read, and not {told}, which says no more"
    return DIALECTS[left[0]], fitting[left[0]], note
