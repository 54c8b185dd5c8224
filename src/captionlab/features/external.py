"""Features made by other programs: checked once, then copied into a feature store."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captionlab.corpora import CaptionCorpus
from captionlab.corpora.corpus import CaptionedImage
from captionlab.errors import DataError
from captionlab.features.arrays import SUFFIXES, Member, as_float, ids_beside, members
from captionlab.features.source import StoredFeatures
from captionlab.features.store import (
    ArrayFile,
    FeatureStore,
    digest_of,
    require_space,
    write_manifest,
)
from captionlab.files import fill_once, remember
from captionlab.images.augmentation import View
from captionlab.progress import bar
from captionlab.types import FeatureShape, ImageFeatures

log = logging.getLogger(__name__)

_VERSION = 1
_BLOCK = 256  # images
_HALF_MAX = float(np.finfo(np.float16).max)
_BESIDE = {"ids", "image_ids", "boxes", "bbox"}  # arrays that are no features
_FORMS = (
    "pooled vectors (N, C), grids (N, P, C) or (N, rows, columns, C), or regions (N, R, C) with "
    "boxes (N, R, 4)"
)


class FeatureFile:
    """A file with the features of all images of a data set, or a folder with a file for each.

    Args:
        features: file (npy, npz or safetensors) or folder of features that were made elsewhere;
            no encoder is run then.

    Attributes:
        path: of the file or folder.
        name: for tables and folders.
        feature_shape: of one image.

    Raises:
        DataError: if there is no such file, or it has no features in a form that is known.
    """

    def __init__(self, features: str | None = None) -> None:
        assert features is not None
        self.path = Path(features).expanduser()
        if not self.path.exists():
            raise DataError(
                f"data.features={features} does not exist; name a file ({', '.join(SUFFIXES)}) or "
                "a folder with a file for each image."
            )
        if not self.path.is_dir() and self.path.suffix not in SUFFIXES:
            raise DataError(f"data.features={features}: a file is one of {', '.join(SUFFIXES)}.")
        self.name = feature_name(features)
        found = members(self._files[0])
        single = self.path.is_dir()  # a file holds one image: no axis of images
        self._parts = _parts(found, self._files[0], single)
        lead = 0 if single else 1
        shapes = {name: member.shape[lead:] for name, member in self._parts.items()}
        self.feature_shape = _feature_shape(shapes, found, self._files[0])
        self._ids = None if single else ids_beside(self.path, found)
        self._check_rows(found, single)

    @cached_property
    def _files(self) -> list[Path]:
        """The file, or those of the folder by name."""
        if not self.path.is_dir():
            return [self.path]
        files = sorted(p for p in self.path.iterdir() if p.suffix in SUFFIXES)
        if not files:
            raise DataError(
                f"data.features={self.path} has no files; a folder has one for each image, named "
                f"ID{', ID'.join(SUFFIXES)}."
            )
        return files

    def _check_rows(self, found: Mapping[str, Member], single: bool) -> None:
        """As many ids, boxes and features; each id once."""
        for name in ("boxes", "bbox"):
            if name in found and "grid" in self._parts:
                expected = (*self._parts["grid"].shape[:-1], 4)
                if found[name].shape != expected:
                    raise DataError(
                        f"{self._files[0]}: {name} has shape {list(found[name].shape)}; to these "
                        f"features belong boxes of {list(expected)}."
                    )
        if single:
            return
        if self._ids is None:
            raise DataError(
                f"{self.path} does not say which image each row is of; add an array ids, or beside "
                f"it {self.path.stem}.ids.txt with an id a line, or {self.path.stem}.ids.json."
            )
        rows = {"ids": len(self._ids), **{name: m.shape[0] for name, m in self._parts.items()}}
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{number} {name}" for name, number in rows.items())
            raise DataError(f"{self.path}: rows and ids do not match ({counts}).")
        twice = [image for image, number in Counter(self._ids).items() if number > 1]
        if twice:
            raise DataError(
                f"{self.path}: {len(twice)} ids come more than once, such as {twice[0]!r}; each "
                "image has one row."
            )

    def digest(self, cache_dir: Path) -> str:
        """A hash of the whole content, kept in `cache_dir` until a size or a time changes."""
        beside = [self.path.with_suffix(f".ids.{end}") for end in ("txt", "json")]
        files = [*self._files, *(p for p in beside if self._ids is not None and p.exists())]
        stats = [path.stat() for path in files]
        status = [
            (path.name, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for path, s in zip(files, stats, strict=True)
        ]
        state = hashlib.sha256(json.dumps([_VERSION, str(self.path.resolve()), status]).encode())
        record = cache_dir / ".fingerprints" / f"{state.hexdigest()[:16]}.json"
        if record.exists():
            known: str = json.loads(record.read_text(encoding="utf-8"))["features"]
            return known
        whole = hashlib.sha256()
        for path in _shown(files, "reading features", "files"):
            with path.open("rb") as file:
                whole.update(f"{path.name}\n".encode())
                whole.update(hashlib.file_digest(file, "sha256").digest())
        remember(record, {"features": whole.hexdigest()[:16]})
        return whole.hexdigest()[:16]

    def rows(self, corpus: CaptionCorpus) -> list[int]:
        """The row of each image of a corpus, in its order.

        Raises:
            DataError: if an image has none.
        """
        ids = self._ids or [path.stem for path in self._files]
        places = {image: row for row, image in enumerate(ids)}
        names = [[name for name in _names(image) if name in places] for image in corpus.images]
        lacking = [i for i, name in zip(corpus.images, names, strict=True) if not name]
        if lacking:
            raise DataError(
                f"{self.path} has no features of {len(lacking)} of {len(names)} images of "
                f"{corpus.name}, such as {lacking[0].image_id}; its ids look like {ids[0]!r}."
            )
        rows = [places[name[0]] for name in names]
        if len(set(rows)) < len(rows):
            raise DataError(
                f"{self.path}: several images of {corpus.name} go by one id; use the ids of the "
                f"data set, such as {corpus.images[0].image_id}."
            )
        if len(ids) > len(rows):
            unknown = len(ids) - len(rows)
            log.info("%s: %d rows are of images that are not in the data set", self.path, unknown)
        return rows

    def read(self, rows: Sequence[int]) -> ImageFeatures:
        """Features of these rows, float32 (B, P, C) and (B, G).

        Raises:
            DataError: if an image has another shape than the first one.
        """
        values = {name: torch.stack(self._read(name, rows)) for name in self._parts}
        if "grid" in values:
            grid = values["grid"].flatten(1, -2)
            return ImageFeatures(grid, values.get("pooled", grid.mean(1)))
        pooled = values["pooled"]
        return ImageFeatures(pooled.new_empty(len(pooled), 0, pooled.shape[1]), pooled)

    def _read(self, name: str, rows: Sequence[int]) -> list[Tensor]:
        if not self.path.is_dir():
            return [as_float(self._open[name][row : row + 1])[0] for row in rows]
        return [self._of_image(self._files[row], name) for row in rows]

    @cached_property
    def _open(self) -> dict[str, Any]:
        return {name: member.open() for name, member in self._parts.items()}

    def _of_image(self, path: Path, name: str) -> Tensor:
        member = _parts(members(path), path, single=True).get(name)
        first = self._parts[name].shape
        if member is None or member.shape != first:
            found = None if member is None else list(member.shape)
            raise DataError(
                f"{path} has {name} features of {found}, and {self._files[0].name} of "
                f"{list(first)}; all images need the same number of positions or regions, as "
                "decoders read no mask. Take features with a fixed number, such as 36 regions."
            )
        return as_float(member.open()[:])


def feature_name(path: str) -> str:
    """What features that were made elsewhere are called in tables and folders."""
    return re.sub(r"[^\w.-]+", "_", Path(path).stem) or "features"


class ExternalFeatures(StoredFeatures):
    """Features that were made elsewhere.

    Args:
        file: with the features.
        others: as of `StoredFeatures`; the encoder only names them.
    """

    places_known = False

    def __init__(self, file: FeatureFile, **others: Any) -> None:
        super().__init__(**others)
        self.file = file

    def open(self, corpus: CaptionCorpus, view: View | None = None) -> FeatureStore:
        """The store of a corpus, filled from the file first where it is not yet.

        Raises:
            DataError: if an image has no features, or a value is not finite.
        """
        assert view is None
        if (corpus.fingerprint, None) not in self._stores:
            facts = {
                "corpus": corpus.fingerprint,
                "encoder": self.encoder.fingerprint,
                "preprocessing": None,
                "feature_shape": vars(self.feature_shape),
                "encoder_parameters": 0,
                "encode_seconds": 0.0,  # unknown
            }
            digest = hashlib.sha256(json.dumps([_VERSION, facts]).encode()).hexdigest()[:12]
            folder = self.folder / f"{corpus.name}-{self.file.name}-{digest}"
            named = {"name": folder.name, **facts}
            wait = "another process copies these features; waiting for it"
            fill_once(
                folder, lambda new: _copy(self.file, corpus, new, named), lambda: log.info(wait)
            )
            self._stores[corpus.fingerprint, None] = FeatureStore(folder)
        return self._stores[corpus.fingerprint, None]


def _copy(file: FeatureFile, corpus: CaptionCorpus, folder: Path, facts: dict[str, Any]) -> None:
    """Fill a store, from the start."""
    rows, images = file.rows(corpus), [image.image_id for image in corpus.images]
    shape = file.feature_shape
    sizes = {
        "grid": (len(rows), shape.num_positions, shape.grid_dim),
        "pooled": (len(rows), shape.pooled_dim),
    }
    needed = sum(int(np.prod(size)) for size in sizes.values()) * 2
    require_space(folder.parent, len(rows), needed)
    positions = f"{shape.num_positions} positions" if shape.num_positions else "vectors"
    log.info("features %s: %s of %d channels", file.path, positions, shape.pooled_dim)
    files = {n: ArrayFile(folder / f"{n}.npy", size, create=True) for n, size in sizes.items()}
    arrays = {name: array.rows for name, array in files.items()}
    blocks: list[dict[str, Any]] = []
    for begin in _shown(range(0, len(rows), _BLOCK), "copying features", "blocks"):
        end = min(begin + _BLOCK, len(rows))
        features = file.read(rows[begin:end])
        for name, values in (("grid", features.grid), ("pooled", features.pooled)):
            _check_values(values, images[begin:end], file.path)
            files[name].write(begin, values.half().numpy())
        blocks.append({"end": end, **{n: digest_of(a[begin:end]) for n, a in arrays.items()}})
    for array in files.values():
        array.flush()
    write_manifest(folder, {**facts, "encode_dtype": "given"}, arrays, blocks, images)


def _check_values(values: Tensor, images: Sequence[str], path: Path) -> None:
    largest = values.abs().flatten(1).amax(1) if values.numel() else torch.zeros(1)
    bad = ~(largest <= _HALF_MAX)  # NaN too
    if bad.any():
        row = int(bad.nonzero()[0])
        raise DataError(
            f"{path}: features of {images[row]} hold {float(largest[row]):g}; they have to be "
            f"finite and below {_HALF_MAX:g}, as they are kept in float16."
        )


def _parts(found: Mapping[str, Member], path: Path, single: bool) -> dict[str, Member]:
    """`grid`, `pooled` or both, among the arrays of a file."""
    arrays = {n: m for n, m in found.items() if n not in _BESIDE and m.shape}
    if not {"grid", "pooled"} >= arrays.keys():
        arrays = {n: m for n, m in arrays.items() if m.is_float}
        if len(arrays) == 1:
            member = next(iter(arrays.values()))
            is_pooled = len(member.shape) + single == 2
            arrays = {"pooled" if is_pooled else "grid": member}
    names = ", ".join(f"{n} {list(m.shape)} {m.dtype}" for n, m in found.items()) or "nothing"
    if not arrays or not {"grid", "pooled"} >= arrays.keys():
        raise DataError(
            f"{path} holds {names}; expected a floating point array, or grid and pooled: {_FORMS}."
        )
    dims = {name: len(member.shape) + single for name, member in arrays.items()}
    fits = dims.get("pooled", 2) == 2 and dims.get("grid", 3) in (3, 4)
    if not fits or not all(m.is_float and 0 not in m.shape for m in arrays.values()):
        raise DataError(f"{path} holds {names}; expected floating point {_FORMS}.")
    return arrays


def _feature_shape(
    shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, Member], path: Path
) -> FeatureShape:
    """Of one image; a grid without rows and columns counts as one row."""
    if "grid" not in shapes:
        (pooled_dim,) = shapes["pooled"]
        return FeatureShape((0, 0), pooled_dim, pooled_dim)
    *size, grid_dim = shapes["grid"]
    (pooled_dim,) = shapes.get("pooled", (grid_dim,))
    if len(size) == 2 and size[1] == grid_dim != size[0]:
        raise DataError(
            f"{path} has features of {list(shapes['grid'])} for an image, which looks like "
            "channels first; they come last: (rows, columns, channels)."
        )
    rows, columns = size if len(size) == 2 else (1, size[0])
    return FeatureShape((rows, columns), grid_dim, pooled_dim)


def _names(image: CaptionedImage) -> Iterator[str]:
    """By what an image may be known elsewhere: its id, its photo's name, COCO's number."""
    yield image.image_id
    for name in (Path(image.image_id), image.path):
        yield name.name
        yield name.stem
        number = name.stem.rpartition("_")[2] if name.stem.startswith("COCO_") else name.stem
        if number.isdecimal():
            yield str(int(number))


def _shown(items: Sequence[Any], doing: str, unit: str) -> Iterator[Any]:
    with bar(doing, len(items), unit) as shown:
        for item in items:
            yield item
            shown.advance()
