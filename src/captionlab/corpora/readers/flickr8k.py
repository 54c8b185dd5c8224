"""The original release of Flickr8k: a token file, three lists of images, the photos.

Source: Hodosh, Young & Hockenmaier 2013; layout of Flickr8k_text.zip and Flickr8k_Dataset.zip.
"""

from __future__ import annotations

from pathlib import Path

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.lists import FLICKR8K_LISTS, divide_by_lists, find_lists
from captionlab.corpora.readers.tokens import TOKEN_LINE, read_tokens
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError

_TOKEN_FILE = "Flickr8k.token.txt"


def is_of_flickr8k(path: Path) -> bool:
    """Flickr8k's lists tell its token files from Flickr30k's."""
    return any((path.parent / name).is_file() for name in FLICKR8K_LISTS.values())


def _fits(tree: Tree, path: Path) -> bool:
    if "lemma" in path.name:  # the release has the captions a second time, words cut to stems
        return False
    return is_of_flickr8k(path) and TOKEN_LINE.match(tree.head(path)) is not None


def _read(tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    lists = find_lists(tree)
    if lists is None:
        raise DataError(
            f"{path}: its split files {', '.join(FLICKR8K_LISTS.values())} are missing; put them "
            "beside it, or set data.dialect=flickr30k to have splits drawn."
        )
    collected = read_tokens(tree, path)
    splits = divide_by_lists(collected, lists)
    return CaptionCorpus(options.name, splits, tuple(collected.notes))


FLICKR8K = Dialect(
    name="flickr8k",
    looks_for=f"{_TOKEN_FILE} with {', '.join(FLICKR8K_LISTS.values())}",
    file_names=(_TOKEN_FILE,),
    suffixes=(".txt", ".token"),
    fits=_fits,
    read=_read,
    overrules=("csv",),
)
