"""Token files, the form that Flickr8k and Flickr30k share: `IMAGE.jpg#NUMBER<tab>CAPTION`."""

from __future__ import annotations

import re
from pathlib import Path

from captionlab.corpora.readers.collected import Collected
from captionlab.corpora.readers.text import read_lines
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

TOKEN_LINE = re.compile(r"(?P<image>[^\t#\n]+)#(?P<number>[0-9]+)\t(?P<caption>[^\n]*)")


def read_tokens(tree: Tree, path: Path) -> Collected:
    """Images and captions of a token file.

    Raises:
        DataError: for a line of another form, an empty caption, and a number that comes twice.
    """
    collected = Collected(path, "line", tree)
    earlier: set[tuple[str, str]] = set()
    for number, line in enumerate(read_lines(path), 1):
        if not line:
            continue
        match = TOKEN_LINE.fullmatch(line)
        if match is None:
            raise collected.error(
                number, f"expected 'IMAGE.jpg#NUMBER<tab>CAPTION', found {line[:60]!r}."
            )
        image, which, caption = match.groups()
        if (image, which) in earlier:
            raise collected.error(number, f"caption {image}#{which} occurs twice; keep one.")
        earlier.add((image, which))
        collected.row(number, image, caption)
    if not collected.images:
        raise DataError(f"{path} is empty; expected lines 'IMAGE.jpg#NUMBER<tab>CAPTION'.")
    return collected
