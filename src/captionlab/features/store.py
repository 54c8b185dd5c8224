"""Features on disk: memory maps shared by all runs of all sweeps."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captionlab.errors import StorageError
from captionlab.files import write_json
from captionlab.types import FeatureShape, ImageFeatures

CALIBRATION = "calibration.npz"  # of random weights


class FeatureStore:
    """Features of all images of a corpus, float16, one row per image.

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
        except Exception as error:  # numpy raises many kinds for a damaged header
            raise StorageError(
                f"features in {folder} are damaged ({error}); remove the folder to encode again."
            ) from error
        for row, digest in self.manifest["sample"].items():
            if digest_of(self._grid[int(row)], self._pooled[int(row)]) != digest:
                raise StorageError(
                    f"features in {folder} are damaged (row {row} is not what was written); "
                    "remove the folder to encode again."
                )
        if not with_grid:
            self._grid = self._grid[:, :0]

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
        """
        rows = [self._rows[image] for image in image_ids]
        return ImageFeatures(
            torch.from_numpy(self._grid[rows]), torch.from_numpy(self._pooled[rows])
        )


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
    """The same for what is read back from a file."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def digest_of(*arrays: Any) -> str:
    """Of the values of numpy arrays, which may lie on disk."""
    joined = hashlib.sha256()
    for array in arrays:
        joined.update(np.ascontiguousarray(array).view(np.uint8).ravel().data)  # without a copy
    return joined.hexdigest()[:16]
