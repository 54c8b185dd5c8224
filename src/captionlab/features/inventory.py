"""The feature stores on disk: list, verify and remove them."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captionlab.errors import StorageError
from captionlab.features.store import FeatureStore, digest_of, digest_of_json
from captionlab.locks import OwnedLock
from captionlab.progress import bar

_ARRAYS = ("grid", "pooled")


@dataclass(frozen=True)
class StoreSummary:
    """One store, complete or not.

    Attributes:
        folder: of the store; its name is the store's.
        encoder: fingerprint of the encoder, or its architecture where the store is incomplete.
        num_encoded: images on disk.
        num_images: of the corpus; 0 where the files are damaged.
        num_bytes: of the files, which have their full size from the start.
    """

    folder: Path
    encoder: str
    num_encoded: int
    num_images: int
    num_bytes: int

    @property
    def complete(self) -> bool:
        return (self.folder / "manifest.json").exists()


def list_stores(root: Path) -> list[StoreSummary]:
    """All stores below `root`, by name; none if there is no such folder."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [
        _describe(folder)
        for folder in folders
        if not folder.name.startswith(".")
        and any((folder / name).exists() for name in ("manifest.json", "progress.json", "grid.npy"))
    ]


def verify_store(store: StoreSummary) -> str | None:
    """Read every byte of a store; of an incomplete one, all blocks that are done.

    Returns:
        The fault, or None.
    """
    record = _read(store.folder / ("manifest.json" if store.complete else "progress.json"))
    if record is None:
        return None if not store.complete else "manifest.json is damaged"
    seal = record.pop("digest", None)
    if seal is None and "blocks" not in record:
        return "it was written by an older version, which kept no digests"
    if store.complete and seal != digest_of_json(record):
        return "manifest.json is damaged"
    for name in _ARRAYS:
        path = store.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r")
        except Exception as error:  # numpy raises many kinds for a damaged header
            return f"{path.name} is damaged ({error})"
        if store.complete and not _has_header_of(path, _shape(record, name)):
            return f"{path.name} is damaged (its header is not what was written)"
        begin = 0
        with bar(f"reading {name}.npy", len(record["blocks"]), "blocks") as shown:
            for block in record["blocks"]:
                if digest_of(array[begin : block["end"]]) != block[name]:
                    return (
                        f"{path.name} is damaged (images {begin} to {block['end'] - 1} are not "
                        "what was written)"
                    )
                begin = block["end"]
                shown.advance()
    try:
        if store.complete:
            _ = FeatureStore(store.folder).calibration
    except StorageError as error:
        return str(error)
    return None


def remove_store(root: Path, name: str) -> StoreSummary:
    """Remove a store, complete or not.

    Returns:
        The removed store.

    Raises:
        StorageError: if there is no such store, or a process is filling it.
    """
    stores = {store.folder.name: store for store in list_stores(root)}
    if name not in stores:
        known = ", ".join(stores) or "none"
        raise StorageError(f"there are no features {name!r} in {root}; there are: {known}.")

    def refuse() -> None:
        raise StorageError(f"features {name} are being encoded by another process; stop it first.")

    with OwnedLock(root / f".{name}.owner").hold(refuse):
        hidden = root / f".{name}.removed"  # in one step, so that a kill leaves no half store
        stores[name].folder.rename(hidden)
        shutil.rmtree(hidden)
    return stores[name]


def _describe(folder: Path) -> StoreSummary:
    manifest, progress = _read(folder / "manifest.json"), _read(folder / "progress.json")
    try:
        num_images = len(np.load(folder / "grid.npy", mmap_mode="r"))
    except Exception:  # numpy raises many kinds for a damaged header
        num_images = 0
    parts = folder.name.rsplit("-", 2)  # corpus, architecture, digest
    complete = (folder / "manifest.json").exists()
    return StoreSummary(
        folder,
        str((manifest or {}).get("encoder", parts[1] if len(parts) == 3 else "?")),
        num_images if complete else int((progress or {"images": 0})["images"]),
        num_images,
        sum(path.stat().st_size for path in folder.iterdir()),
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError):
        return None


def _shape(manifest: dict[str, Any], name: str) -> tuple[int, ...]:
    shape, num_images = manifest["feature_shape"], len(manifest["image_ids"])
    if name == "pooled":
        return (num_images, shape["pooled_dim"])
    return (num_images, manifest["num_positions"], shape["grid_dim"])


def _has_header_of(path: Path, shape: tuple[int, ...]) -> bool:
    expected = io.BytesIO()
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(expected, header)
    with path.open("rb") as file:
        return file.read(len(expected.getvalue())) == expected.getvalue()
