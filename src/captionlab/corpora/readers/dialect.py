"""What a reader declares: how its files are recognised, and how they are read."""

from __future__ import annotations

import filecmp
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
        in_parts: whether captions may lie in several of its files.
    """

    name: str
    looks_for: str
    file_names: tuple[str, ...]
    suffixes: tuple[str, ...]
    fits: Callable[[Tree, Path], bool]
    read: Callable[[Tree, Path, Options], CaptionCorpus]
    overrules: tuple[str, ...] = ()
    in_parts: bool = False

    def find(self, tree: Tree) -> Path | None:
        """The file whose content fits; None if there is none.

        Raises:
            DataError: if several fit equally, and are no copies of each other.
        """
        fitting = [path for path in tree.files(self.suffixes) if self.fits(tree, path)]
        if not fitting:
            return None
        named = self._named(fitting)
        best, *others = named or fitting
        if named:  # of those with a usual name, the one nearest to the root
            others = [path for path in others if len(path.parts) == len(best.parts)]
        differing = [path for path in others if not filecmp.cmp(best, path, shallow=False)]
        if differing and not self.in_parts:
            files = ", ".join(str(path) for path in [best, *differing][:3])
            raise DataError(
                f"several files hold captions ({files}); leave one of them in data.root."
            )
        return best

    def find_by_name(self, tree: Tree) -> Path | None:
        """The file that has a usual name, whatever is in it; None if there is none."""
        return next(iter(self._named(tree.files(self.suffixes))), None)

    def _named(self, paths: list[Path]) -> list[Path]:
        """Those that have the best of the usual names that occur."""
        for pattern in self.file_names:
            named = [path for path in paths if fnmatch(path.name, pattern)]
            if named:
                return named
        return []
