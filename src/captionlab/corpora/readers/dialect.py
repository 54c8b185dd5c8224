"""What a reader declares: how its files are recognised, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError


@dataclass(frozen=True)
class Options:
    """What readers get besides the files.

    Attributes:
        name: of the corpus.
        split_seed: of splits that are drawn.
        use_restval: whether Karpathy's `restval` joins training.
        unpack_dir: gets the photos that lie in tables.
    """

    name: str
    split_seed: int
    use_restval: bool
    unpack_dir: Path


@dataclass(frozen=True)
class Dialect:
    """One form in which captions lie on disk.

    Attributes:
        name: value of the option `dialect`.
        looks_for: description of its files, for people.
        file_names: patterns of its files' usual names, best first; they identify a damaged file,
            and decide between several that fit.
        suffixes: of the files that are looked into.
        fits: whether the beginning of a file is of this form.
        read: reads such a file.
        overrules: dialects that are passed over where both fit, because they say less.
    """

    name: str
    looks_for: str
    file_names: tuple[str, ...]
    suffixes: tuple[str, ...]
    fits: Callable[[Tree, Path], bool]
    read: Callable[[Tree, Path, Options], CaptionCorpus]
    overrules: tuple[str, ...] = ()

    def find(self, tree: Tree) -> Path | None:
        """The file whose content fits; None if there is none.

        Raises:
            DataError: if several fit equally.
        """
        fitting = [path for path in tree.files(self.suffixes) if self.fits(tree, path)]
        named = self._named(fitting)
        if named is None and len(fitting) > 1:
            files = ", ".join(str(path) for path in fitting[:3])
            raise DataError(
                f"several files hold captions ({files}); leave one of them in data.root."
            )
        return named or next(iter(fitting), None)

    def find_by_name(self, tree: Tree) -> Path | None:
        """The file that has a usual name, whatever is in it; None if there is none."""
        return self._named(tree.files(self.suffixes))

    def _named(self, paths: list[Path]) -> Path | None:
        for pattern in self.file_names:
            for path in paths:
                if fnmatch(path.name, pattern):
                    return path
        return None
