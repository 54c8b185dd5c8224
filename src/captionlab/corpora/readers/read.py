"""One function that reads whatever people downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError


@cache
def dialects() -> Mapping[str, Dialect]:
    """Every `Dialect` that a module of this package defines, by name."""
    folder = str(Path(__file__).parent)
    modules = [import_module(f"{__package__}.{module.name}") for module in iter_modules([folder])]
    defined = (value for module in modules for value in vars(module).values())
    return {value.name: value for value in defined if isinstance(value, Dialect)}


def check_dialect(name: str) -> None:
    """Make sure that there is a dialect of that name, or that it is `auto`.

    Raises:
        DataError: if not; it says which there are.
    """
    if name == "auto" or name in dialects():
        return
    near = get_close_matches(name, dialects(), n=1)
    hint = f"did you mean {near[0]}? It" if near else "it"
    raise DataError(f"data.dialect={name} is unknown; {hint} can be auto, {', '.join(dialects())}.")


def read_corpus(
    root: Path,
    dialect: str = "auto",
    name: str | None = None,
    *,
    split_seed: int = 0,
    use_restval: bool = True,
    unpack_dir: Path | None = None,
    needs_photos: bool = True,
) -> CaptionCorpus:
    """Read the data set below `root`, in whatever dialect it is.

    Args:
        root: its folder; captions lie in it or in a folder of it, photos at most two folders deep.
        dialect: one of `dialects`, or `auto` to detect it from the contents of the files, and
            where none fits from their names.
        name: of the corpus; None for the folder's.
        split_seed: of splits that are drawn where none is given.
        use_restval: whether the images that Karpathy calls `restval` join training; else they are
            left out.
        unpack_dir: gets the photos that lie in tables; None for a folder in `root`.
        needs_photos: whether an image without its photo is an error; captions are scored without.

    Raises:
        DataError: if no dialect fits, or several; if a file is damaged, a photo is missing, or an
            image is in two splits.
    """
    check_dialect(dialect)
    tree = Tree(root, needs_photos)
    options = Options(
        name=root.resolve().name if name is None else name,
        split_seed=split_seed,
        use_restval=use_restval,
        unpack_dir=root / ".photos" if unpack_dir is None else unpack_dir,
    )
    reader, path, note = _find(tree, dialect)
    corpus = reader.read(tree, path, options)
    return replace(corpus, notes=(*corpus.notes, note)) if note else corpus


def _find(tree: Tree, name: str) -> tuple[Dialect, Path, str | None]:
    """The dialect, its file, and a note on the files that were passed over."""
    known = dialects()
    candidates = list(known.values()) if name == "auto" else [known[name]]
    fitting = {d.name: path for d in candidates if (path := d.find(tree))}
    if not fitting:
        fitting = {d.name: path for d in candidates if (path := d.find_by_name(tree))}
    overruled = [other for d in fitting for other in known[d].overrules if other in fitting]
    remaining = [d for d in fitting if d not in overruled]
    if not remaining:
        forms = "; ".join(f"{d.name}: {d.looks_for}" for d in candidates)
        raise DataError(
            f"data.root={tree.root}: no captions were found in it or its folders; looked for "
            f"{forms}."
        )
    if len(remaining) > 1:
        files = ", ".join(f"{d} ({fitting[d]})" for d in remaining)
        raise DataError(
            f"data.root={tree.root}: several dialects fit: {files}; choose by data.dialect."
        )
    chosen, note = remaining[0], None
    if overruled:
        others = ", ".join(sorted({f"{fitting[d].name} (data.dialect={d})" for d in overruled}))
        note = f"{fitting[chosen].name} was read, and not {others}, which says no more"
    return known[chosen], fitting[chosen], note
