"""Tables in Parquet with the photos in them, the two forms of Flickr8k and Flickr30k.

`image` with `caption_0` .. `caption_4`, split by file name (jxie/flickr8k), and `image` with a list
`caption`, a `split` and a `filename` (nlphuji/flickr30k).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers.collected import SPLIT_NAMES, Collected
from captionlab.corpora.readers.dialect import Dialect, Options
from captionlab.corpora.readers.splits import corpus_with_splits
from captionlab.corpora.readers.tree import Tree
from captionlab.errors import DataError, StorageError
from captionlab.files import fill_once

log = logging.getLogger(__name__)

_MAGIC = "PAR1"
_NUMBERED = re.compile(r"caption_[0-9]+")
_ROWS = 64  # photos held in memory


def _fits(tree: Tree, path: Path) -> bool:
    return tree.head(path).startswith(_MAGIC)


def _read(tree: Tree, path: Path, options: Options) -> CaptionCorpus:
    tables = [_Table.open(file) for file in tree.files((".parquet",)) if file.parent == path.parent]
    photos = _unpack(tables, options.unpack_dir)
    collected = Collected(path, "row", Tree(photos))
    for table in tables:
        collected.file = table.path
        for number, row in enumerate(table.rows(with_photos=False), 1):
            split = None
            if row.split is not None:
                split = collected.split(number, row.split, options.use_restval)
                if split is None:
                    continue
            photo = photos / row.name
            image = collected.image(number, row.name, photo if photo.is_file() else None, split)
            for caption in row.captions:
                collected.caption(number, image, caption)
    return corpus_with_splits(collected, options)


@dataclass(frozen=True)
class _Row:
    name: str  # of the photo
    captions: list[object]
    split: object
    photo: object  # bytes, when asked for


@dataclass(frozen=True)
class _Table:
    """One file; `pyarrow` raises many kinds for a damaged one."""

    path: Path
    file: Any
    columns: tuple[str, ...]
    in_struct: bool  # whether the image is a struct of bytes and path

    @classmethod
    def open(cls, path: Path) -> _Table:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise DataError(
                f"{path} is a table in Parquet: pip install 'captionlab[parquet]' to read it."
            ) from error
        try:
            file = pyarrow.parquet.ParquetFile(path)
            schema = file.schema_arrow
            columns = tuple(schema.names)
            in_struct = "image" in columns and pyarrow.types.is_struct(schema.field("image").type)
        except Exception as error:
            raise _damaged(path, error) from error
        if "image" not in columns or not any(
            name == "caption" or _NUMBERED.fullmatch(name) for name in columns
        ):
            raise DataError(
                f"{path}: expected columns image and caption, or image and caption_0, caption_1, "
                f"...; found {', '.join(columns)[:100]}."
            )
        return cls(path, file, columns, in_struct)

    @property
    def named_split(self) -> str | None:
        """The split in the file's name, such as train-00000-of-00002.parquet."""
        first = re.split(r"[-_.]", self.path.name)[0]
        return first if first in SPLIT_NAMES else None

    def rows(self, with_photos: bool) -> Iterator[_Row]:
        """All rows, in order."""
        image = "image" if with_photos else "image.path" if self.in_struct else None
        others = [c for c in self.columns if c in ("caption", "split", "filename")]
        others += [c for c in self.columns if _NUMBERED.fullmatch(c)]
        number = 0
        try:
            for batch in self.file.iter_batches(
                _ROWS, columns=[*others, *([image] if image else [])]
            ):
                for values in batch.to_pylist():
                    yield self._row(number, values)
                    number += 1
        except DataError:
            raise
        except Exception as error:
            raise _damaged(self.path, error) from error

    def _row(self, number: int, values: dict[str, Any]) -> _Row:
        image = values.get("image")
        inside: dict[str, Any] = image if isinstance(image, dict) else {"bytes": image}
        given = values.get("filename") or inside.get("path")
        name = str(given) if given else f"{self.path.stem}_{number:06d}"
        if Path(name).name != name or name.startswith(".") or "\0" in name:
            raise DataError(f"{self.path}, row {number + 1}: {name!r:.60} is no photo's file name.")
        captions = values.get("caption")
        if not isinstance(captions, list):
            captions = [] if captions is None else [captions]
        captions = [*captions, *(v for k, v in values.items() if _NUMBERED.fullmatch(k))]
        split = values.get("split", self.named_split)
        return _Row(name, captions, split, inside.get("bytes"))


def _damaged(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or ["no reason"])[0]
    return DataError(f"{path} is not a readable Parquet table ({type(error).__name__}: {reason}).")


def _unpack(tables: list[_Table], root: Path) -> Path:
    """The photos as files in a folder below `root`, written once and named by the tables' state.

    Raises:
        DataError: if a row has no photo, or two have one name.
        StorageError: if the folder cannot be written.
    """
    state = [[t.path.name, t.path.stat().st_size, t.path.stat().st_mtime_ns] for t in tables]
    folder = root / hashlib.sha256(json.dumps(state).encode()).hexdigest()[:12]

    def fill(unpacked: Path) -> None:
        log.info("unpacking the photos of %d tables into %s", len(tables), folder)
        for table in tables:
            _write(table, unpacked)

    try:
        fill_once(folder, fill)
    except OSError as error:
        raise StorageError(f"photos cannot be unpacked into {root} ({error.strerror}).") from error
    return folder


def _write(table: _Table, folder: Path) -> None:
    for number, row in enumerate(table.rows(with_photos=True), 1):
        if not isinstance(row.photo, bytes):
            raise DataError(f"{table.path}, row {number}: there is no photo in column image.")
        target = folder / row.name
        if target.exists():
            raise DataError(
                f"{table.path}, row {number}: image {row.name!r} occurs twice; keep one."
            )
        target.write_bytes(row.photo)


PARQUET = Dialect(
    name="parquet",
    looks_for="*.parquet with columns image and caption or caption_0, caption_1, ...",
    file_names=("*.parquet",),
    suffixes=(".parquet",),
    fits=_fits,
    read=_read,
    in_parts=True,
)
