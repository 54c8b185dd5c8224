"""Features on disk: memory maps shared by all runs of all sweeps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captionlab.errors import StorageError
from captionlab.files import unwritable, write_json
from captionlab.types import FeatureShape, ImageFeatures

CALIBRATION = "calibration.npz"  # of random weights


class FeatureStore:
    """Features of all images of a corpus, float16, one row per image.

    A block of rows is compared with its digest when one of them is read for the first time.

    Args:
        folder: made by `builder.open_or_build`.
        with_grid: if not, stored maps are not read.

    Attributes:
        manifest: what the features are and what they cost, in plain values.
        feature_shape: of one image.

    Raises:
        StorageError: if the folder is incomplete or damaged.
    """

    def __init__(self, folder: Path, with_grid: bool = True) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
            shape = self.manifest["feature_shape"]
            self.feature_shape = FeatureShape(
                tuple(shape["grid_size"]), shape["grid_dim"], shape["pooled_dim"]
            )
            self._rows = {image: i for i, image in enumerate(self.manifest["image_ids"])}
            self._grid = np.load(folder / "grid.npy", mmap_mode="r")
            self._pooled = np.load(folder / "pooled.npy", mmap_mode="r")
            self._ends = [block["end"] for block in self.manifest["blocks"]]
        except Exception as error:  # numpy raises many kinds for a damaged header
            raise StorageError(
                f"features in {folder} are damaged ({error}); remove the folder to encode again."
            ) from error
        record = {key: value for key, value in self.manifest.items() if key != "digest"}
        if self.manifest.get("digest") != digest_of_json(record):
            raise self._damage("manifest.json is not what was written")
        for row, digest in self.manifest["sample"].items():
            if digest_of(self._grid[int(row)], self._pooled[int(row)]) != digest:
                raise self._damage(f"row {row} is not what was written")
        self._arrays = {"grid": self._grid, "pooled": self._pooled}
        if not with_grid:
            self._grid = self._grid[:, :0]
            del self._arrays["grid"]
        self._verified: set[int] = set()  # numbers of blocks

    @cached_property
    def calibration(self) -> dict[str, Tensor]:
        """What the encoder's random weights were fitted to, float32 (C,) by name.

        It is empty for other weights, and where an older version made the store.

        Raises:
            StorageError: if it is not what was written.
        """
        path = self.folder / CALIBRATION
        calibration = read_calibration(path) if path.exists() else {}
        if digest_of(*calibration.values()) != self.manifest.get("calibration", digest_of()):
            raise StorageError(f"{path} is damaged; remove {self.folder} to encode again.")
        return calibration

    def read(self, image_ids: Iterable[str]) -> ImageFeatures:
        """Features of these images, float16 (B, P, C) and (B, G), in memory of their own.

        Raises:
            KeyError: if an image is not of the corpus.
            StorageError: if the rows, or others of their blocks, are not what was written.
        """
        rows = [self._rows[image] for image in image_ids]
        for block in {bisect_right(self._ends, row) for row in rows} - self._verified:
            self._verify(block)
        return ImageFeatures(
            torch.from_numpy(self._grid[rows]), torch.from_numpy(self._pooled[rows])
        )

    def _verify(self, block: int) -> None:
        begin, end = self._ends[block - 1] if block else 0, self._ends[block]
        for name, array in self._arrays.items():
            row_bytes = array.nbytes // len(array)
            # Read from the file: pages of the memory map would count as memory of the process.
            with (self.folder / f"{name}.npy").open("rb", buffering=0) as file:
                file.seek(array.offset + begin * row_bytes)
                found = _digest_of_file(file, (end - begin) * row_bytes)
            if found != self.manifest["blocks"][block][name]:
                raise self._damage(
                    f"{name}.npy: images {begin} to {end - 1} are not what was written"
                )
        self._verified.add(block)

    def _damage(self, what: str) -> StorageError:
        return StorageError(
            f"features in {self.folder} are damaged ({what}); remove the folder to encode again."
        )


def _digest_of_file(file: FileIO, num_bytes: int) -> str:
    """`digest_of` the next bytes of a file."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(2**18))
    while num_bytes > 0:
        read = file.readinto(buffer[:num_bytes])
        if not read:
            break
        digest.update(buffer[:read])
        num_bytes -= read
    return digest.hexdigest()[:16]


class ArrayFile:
    """A .npy file that is filled from its beginning.

    Written by plain writes: a full disk is an error of theirs, and the end of the process (SIGBUS)
    where memory maps are written.

    Args:
        path: of the file.
        shape: of the float16 array.
        create: whether it is made anew.

    Attributes:
        rows: what is written, as a memory map.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], create: bool) -> None:
        self.path = path
        try:
            if create:
                np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            self.rows: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
            self._file = path.open("r+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, begin: int, values: Any) -> None:
        """Write rows from number `begin` on."""
        row_bytes = self.rows.nbytes // len(self.rows)
        try:
            self._file.seek(self.rows.offset + begin * row_bytes)
            rest = np.ascontiguousarray(values).view(np.uint8).ravel().data
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise unwritable(self.path, error) from error

    def flush(self) -> None:
        """Bring to the disk what was written."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error


def require_space(folder: Path, num_images: int, num_bytes: int) -> None:
    """Make sure that a store fits on the disk of a folder.

    Raises:
        StorageError: if not; it says by how much.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise StorageError(
            f"features of {num_images} images need {num_bytes / 1e9:.2f} GB in {folder}, and "
            f"{free / 1e9:.2f} GB are free; make room, or set cache_dir to a larger disk."
        )


def write_manifest(
    folder: Path,
    facts: Mapping[str, Any],
    arrays: Mapping[str, Any],
    blocks: Sequence[Mapping[str, Any]],
    image_ids: Sequence[str],
) -> None:
    """Complete a store.

    Args:
        folder: of the store; its name is the store's.
        facts: what the features depend on and what they cost, in plain values.
        arrays: `grid` and `pooled`.
        blocks: digests of both from one block's `end` to the next.
        image_ids: one for each row.
    """
    last = len(image_ids) - 1
    sample = sorted({round(i * last / 15) for i in range(16)})
    manifest = {
        "name": folder.name,
        **facts,
        "num_positions": arrays["grid"].shape[1],
        "num_bytes": sum(array.nbytes for array in arrays.values()),
        "sample": {row: digest_of(arrays["grid"][row], arrays["pooled"][row]) for row in sample},
        "blocks": blocks,
        "image_ids": image_ids,
    }
    write_json(folder / "manifest.json", {**manifest, "digest": digest_of_json(manifest)})


def read_calibration(path: Path) -> dict[str, Tensor]:
    """An encoder's `calibration` from a file of a store.

    Raises:
        StorageError: if it is damaged.
    """
    try:
        with np.load(path) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # numpy raises many kinds for a damaged file
        raise StorageError(
            f"{path} is damaged ({error}); remove {path.parent} to encode again."
        ) from error


def digest_of_json(value: dict[str, Any]) -> str:
    """A digest of a JSON value, the same when it is read back from a file."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def digest_of(*arrays: Any) -> str:
    """Of the values of numpy arrays, which may lie on disk."""
    joined = hashlib.sha256()
    for array in arrays:
        joined.update(np.ascontiguousarray(array).view(np.uint8).ravel().data)  # without a copy
    return joined.hexdigest()[:16]
