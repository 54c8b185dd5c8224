"""Flickr30k: the token file of the release, and the table with `|` that goes around.

Source: Young et al. 2014; layout of flickr30k.tar.gz (results_20130124.token) and of results.csv.
"""

from __future__ import annotations

import re
from pathlib import Path

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.collected import Collected, drawn_split
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.flickr8k import is_of_flickr8k
from captionlab.corpora.readers.lists import divide_by_lists, find_lists
from captionlab.corpora.readers.text import read_lines
from captionlab.corpora.readers.tokens import TOKEN_LINE, read_tokens
from captionlab.corpora.readers.tree import Tree

_HEADER = re.compile(r"image_name *\| *comment_number *\| *comment *")
_ROW = re.compile(r"(?P<image>[^|]+?) *\| *(?P<number>[0-9]+) *\| *(?P<caption>.*)", re.DOTALL)
# results.csv has one such row: "2199200615.jpg| 4   A dog runs across the grass ."
_BROKEN_ROW = re.compile(r"(?P<image>[^|]+?) *\| *(?P<number>[0-9]+) {2,}(?P<caption>[^|]+)")


def _fits(tree: Tree, path: Path) -> bool:
    head = tree.head(path)
    if _HEADER.match(head):
        return True
    return TOKEN_LINE.match(head) is not None and not is_of_flickr8k(path)


def _read(tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    is_table = path.suffix == ".csv" or _HEADER.match(tree.head(path))
    collected = _read_table(tree, path) if is_table else read_tokens(tree, path)
    lists = find_lists(tree)
    if lists is not None:
        splits = divide_by_lists(collected, lists)
    else:
        splits = collected.divide(lambda image: drawn_split(options.split_seed, image))
        collected.notes.append(
            f"no split is given (train.txt, val.txt and test.txt, or dataset_flickr30k.json): "
            f"80/10/10 % drawn by image with data.split_seed={options.split_seed}"
        )
    return CaptionCorpus(options.name, splits, tuple(collected.notes))


def _read_table(tree: Tree, path: Path) -> Collected:
    collected = Collected(path, "line", tree)
    earlier: set[tuple[str, str]] = set()
    lines = read_lines(path)
    if not _HEADER.fullmatch(lines[0]):
        raise collected.error(
            1,
            f"expected the header 'image_name| comment_number| comment', found {lines[0][:60]!r}.",
        )
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        match = _ROW.fullmatch(line)
        if match is None and (match := _BROKEN_ROW.fullmatch(line)):
            collected.notes.append(
                f"line {number} of {path.name} lacks its second separator: read as caption "
                f"{match['number']} of {match['image']}"
            )
        if match is None:
            raise collected.error(
                number, f"expected 'IMAGE| NUMBER| CAPTION', found {line[:60]!r}."
            )
        image, which, caption = match.groups()
        if (image, which) in earlier:
            raise collected.error(number, f"caption {which} of {image} occurs twice; keep one.")
        earlier.add((image, which))
        collected.row(number, image, caption)
    return collected


FLICKR30K = Dialect(
    name="flickr30k",
    looks_for="results_20130124.token, or results.csv with image_name| comment_number| comment",
    file_names=("results_20130124.token", "results.csv", "*.token"),
    suffixes=(".token", ".txt", ".csv"),
    fits=_fits,
    read=_read,
)
