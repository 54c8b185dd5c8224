"""The files below a data set's root, listed once per folder."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from captionlab.errors import DataError
from captionlab.files import size_of
from captionlab.images.photos import SUFFIXES

# Where releases and their users put photos; looked into before other folders.
PHOTO_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images")
_HEAD_BYTES = 65536


class Tree:
    """The root, its folders and their folders; hidden ones are left alone.

    At COCO's size a stat per photo takes minutes on a network disk. So every folder is listed
    instead, once, when it is first needed.

    Args:
        root: folder of a data set.
        needs_photos: whether an image without its photo is an error.

    Raises:
        DataError: if it is no folder.
    """

    def __init__(self, root: Path, needs_photos: bool = True) -> None:
        if not root.is_dir():
            raise DataError(
                f"data.root={root} is not a folder; set data.root to the folder of the data set."
            )
        self.root = root
        self.needs_photos = needs_photos
        self._listed: dict[str, tuple[frozenset[str], list[str]]] = {}
        self._heads: dict[Path, str] = {}

    def files(self, suffixes: tuple[str, ...]) -> list[Path]:
        """Files of these suffixes, in the root and the folders in it, by depth and name."""
        return [
            Path(folder, name)
            for folder in self._folders(1)
            for name in sorted(n for n in self._list(folder)[0] if n.lower().endswith(suffixes))
        ]

    def head(self, path: Path) -> str:
        """The first 64 KiB as text, whatever they are; empty if the file cannot be read."""
        if path not in self._heads:
            try:
                with path.open("rb") as file:
                    begin = file.read(_HEAD_BYTES)
            except OSError:
                begin = b""
            self._heads[path] = begin.decode("utf-8-sig", errors="replace")
        return self._heads[path]

    def photo(self, *names: str) -> Path | None:
        """Where a photo lies that goes by one of these names, folders with `/`; None if nowhere.

        Raises:
            DataError: if a name leads out of the root, or two different files have it.
        """
        for name in names:
            folder, _, file = name.rpartition("/")
            if folder.startswith("/") or ".." in folder.split("/"):
                raise DataError(
                    f"photo {name!r:.100} lies outside of {self.root}; name photos relative to it."
                )
            where = [f"{base}/{folder}" if folder else base for base in self._bases]
            paths = [Path(place, file) for place in where if file in self._list(place)[0]]
            if len(paths) > 1 and self.needs_photos:
                self._refuse_different(name, paths)
            if paths:
                return paths[0]
        return None

    def _refuse_different(self, name: str, paths: list[Path]) -> None:
        """Copies do no harm; which of two photos is meant cannot be known."""
        first = size_of(paths[0])
        for other in paths[1:]:
            if size_of(other) != first:
                raise DataError(
                    f"photo {name} is two different files, {paths[0]} and {other}; leave one, or "
                    "name photos with their folders, as in folder/photo.jpg."
                )

    def other_case(self, name: str) -> str | None:
        """A photo's name that differs from `name` in upper and lower case alone; None if none."""
        folder, slash, file = name.rpartition("/")
        for base in self._bases:
            for listed in self._list(f"{base}/{folder}")[0]:
                if listed.lower() == file.lower():
                    return f"{folder}{slash}{listed}"
        return None

    def num_photos(self, folder: Path) -> int:
        """Files in a folder that are photos by their suffix."""
        return sum(name.lower().endswith(SUFFIXES) for name in self._list(str(folder))[0])

    @cached_property
    def _bases(self) -> list[str]:
        folders = self._folders(2)
        return sorted(folders, key=lambda folder: Path(folder).name not in PHOTO_FOLDERS)

    def _folders(self, depth: int) -> list[str]:
        folders = level = [str(self.root)]
        for _ in range(depth):
            level = [f"{folder}/{name}" for folder in level for name in self._list(folder)[1]]
            folders = folders + level
        return folders

    def _list(self, folder: str) -> tuple[frozenset[str], list[str]]:
        """Names of files and of folders in a folder; none if it cannot be listed."""
        if folder not in self._listed:
            files: list[str] = []
            folders: list[str] = []
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if not entry.name.startswith("."):
                            (folders if entry.is_dir() else files).append(entry.name)
            except (OSError, ValueError):  # ValueError: a null byte in its name
                pass
            self._listed[folder] = frozenset(files), sorted(folders)
        return self._listed[folder]
