"""Encodes the images of a corpus into a feature store, once per image."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captionlab.corpora import CaptionCorpus
from captionlab.errors import StorageError
from captionlab.features.store import (
    CALIBRATION,
    ArrayFile,
    FeatureStore,
    digest_of,
    read_calibration,
    require_space,
    write_manifest,
)
from captionlab.files import make_once, size_of, write_atomically, write_json
from captionlab.images.augmentation import View
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.images.preprocessing import normalise
from captionlab.progress import bar
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing

log = logging.getLogger(__name__)

_VERSION = 3  # 3: the manifest has digests of all blocks, and one of itself
_HALF = np.float16
_BLOCK = 256  # images between two records of progress
_HALF_MAX = float(np.finfo(_HALF).max)


class ImageEncoder(Protocol):
    """What the store asks of an encoder; `fingerprint` names all that its features depend on."""

    fingerprint: str
    preprocessing: Preprocessing
    feature_shape: FeatureShape
    num_calibration_images: int
    calibration: Mapping[str, Tensor]
    num_parameters: int
    num_trained_parameters: int

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        """Load weights; see `captionlab.encoders`."""

    def __call__(self, images: Tensor) -> ImageFeatures:
        """Encode float32 (B, 3, S, S)."""


def open_or_build(
    root: Path,
    corpus: CaptionCorpus,
    encoder: ImageEncoder,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
    view: View | None = None,
    with_grid: bool = True,
) -> FeatureStore:
    """Open the store of this corpus and encoder; encode first what is missing.

    Processes that ask at once build it once, and a build that was interrupted resumes after its
    last block.

    Args:
        root: holds one folder per store.
        corpus: whose images are encoded.
        encoder: frozen.
        batch_size: images encoded at once.
        num_workers: processes that decode photos.
        device: where the encoder runs.
        autocast_dtype: in which it computes; None for float32. Not part of the store's name.
        view: of the training images, which alone are then encoded; None for all as they are.
        with_grid: if not, maps are left out, and read as (B, 0, C).

    Raises:
        DataError: if a photo cannot be read.
        StorageError: if the disk is too small, or a value does not fit into float16.
    """
    whole = root / _name(corpus, encoder, view, with_grid=True)
    if (whole / "manifest.json").exists():
        return FeatureStore(whole, with_grid)
    folder = whole if with_grid else root / _name(corpus, encoder, view, with_grid=False)

    def make() -> None:
        builder = _Builder(folder, corpus, encoder, device, autocast_dtype, view, with_grid)
        builder.build(batch_size, num_workers)

    wait = "another process encodes these images; waiting for it"
    lock = root / f".{folder.name}.owner"
    make_once(folder / "manifest.json", make, lock, lambda: log.info(wait))
    return FeatureStore(folder)


class _Builder:
    """Fills the folder of a store; `progress.json` counts the images on disk."""

    def __init__(
        self,
        folder: Path,
        corpus: CaptionCorpus,
        encoder: ImageEncoder,
        device: torch.device,
        autocast_dtype: torch.dtype | None,
        view: View | None,
        with_grid: bool,
    ) -> None:
        self.folder = folder
        self.corpus = corpus
        self.view = view
        self.images = corpus.images if view is None else list(corpus.splits["train"])
        self.encoder = encoder
        self.device = device
        self.autocast_dtype = autocast_dtype
        shape = encoder.feature_shape
        self.num_positions = shape.num_positions if with_grid else 0
        self.shapes = {
            "grid": (len(self.images), self.num_positions, shape.grid_dim),
            "pooled": (len(self.images), shape.pooled_dim),
        }

    def build(self, batch_size: int, num_workers: int) -> None:
        progress = self.folder / "progress.json"
        done, seconds = 0, 0.0
        blocks: list[dict[str, Any]] = []
        if progress.exists() and all((self.folder / f"{n}.npy").exists() for n in self.shapes):
            saved = json.loads(progress.read_text())
            done, seconds, blocks = saved["images"], saved["seconds"], saved["blocks"]
            log.info("resuming after %d encoded images", done)
        else:
            self._check_space()
            self.folder.mkdir(exist_ok=True)
        arrays = {
            name: ArrayFile(self.folder / f"{name}.npy", shape, done == 0)
            for name, shape in self.shapes.items()
        }
        began = time.perf_counter()
        images = self.images
        rest = [(image.path, self.view) for image in images[done:]]
        photos = Photos(rest, self.encoder.preprocessing)
        batches = pixel_batches(photos, batch_size, num_workers)
        self._prepare(batch_size, num_workers)
        written = recorded = done
        with bar("encoding images", len(images), "images", done) as shown:
            for pixels in batches:
                for name, values in self._encode(pixels).items():
                    arrays[name].write(written, values)
                written += len(pixels)
                shown.advance(len(pixels))
                if written - recorded >= _BLOCK or written == len(images):
                    for array in arrays.values():
                        array.flush()
                    spent = seconds + time.perf_counter() - began
                    block = {
                        name: digest_of(a.rows[recorded:written]) for name, a in arrays.items()
                    }
                    blocks.append({"end": written, **block})
                    write_json(progress, {"images": written, "seconds": spent, "blocks": blocks})
                    recorded = written
        self._finish(arrays, seconds + time.perf_counter() - began, blocks)
        progress.unlink()

    def _prepare(self, batch_size: int, num_workers: int) -> None:
        """Load the weights; what is fitted to images is kept, for a resumed build and for runs."""
        path = self.folder / CALIBRATION
        if path.exists():
            self.encoder.calibration = read_calibration(path)
        prepare(self.encoder, self.corpus, self.device, batch_size, num_workers)
        if self.encoder.calibration and not path.exists():
            content = io.BytesIO()
            arrays: dict[str, Any] = {k: v.numpy() for k, v in self.encoder.calibration.items()}
            np.savez(content, **arrays)
            write_atomically(path, content.getvalue())

    def _check_space(self) -> None:
        needed = sum(int(np.prod(shape)) for shape in self.shapes.values()) * _HALF().nbytes
        log.info(
            "encoding %d images, %.2f GB, into %s",
            len(self.images),
            needed / 1e9,
            self.folder,
        )
        require_space(self.folder.parent, len(self.images), needed)

    def _encode(self, pixels: Tensor) -> dict[str, Any]:
        images = normalise(pixels.to(self.device), self.encoder.preprocessing)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, self.autocast_dtype, self.autocast_dtype is not None),
        ):
            features = self.encoder(images)
        arrays = {}
        kept = features.grid[:, : self.num_positions]
        for name, values in (("grid", kept), ("pooled", features.pooled)):
            largest = float(values.abs().max()) if values.numel() else 0.0
            if not largest <= _HALF_MAX:  # NaN too
                raise StorageError(
                    f"the encoder gave {largest:g} in its {name} features, which float16 cannot "
                    "hold; its weights do not fit its preprocessing."
                )
            arrays[name] = values.half().cpu().numpy()
        return arrays

    def _finish(
        self,
        arrays: dict[str, ArrayFile],
        seconds: float,
        blocks: list[dict[str, Any]],
    ) -> None:
        facts = {
            **describe(self.corpus, self.encoder),
            "encode_seconds": seconds,
            "encode_dtype": str(self.autocast_dtype or torch.float32),
            "calibration": digest_of(*self.encoder.calibration.values()),
        }
        ids = [image.image_id for image in self.images]
        rows = {name: array.rows for name, array in arrays.items()}
        write_manifest(self.folder, facts, rows, blocks, ids)


def prepare(
    encoder: ImageEncoder,
    corpus: CaptionCorpus,
    device: torch.device,
    batch_size: int,
    num_workers: int,
) -> None:
    """Load the encoder's weights, fitted to the first training images where they are random."""
    encoder.prepare(calibration_batches(encoder, corpus, batch_size, num_workers), device)


def calibration_batches(
    encoder: ImageEncoder, corpus: CaptionCorpus, batch_size: int, num_workers: int
) -> Iterator[Tensor]:
    """The training images that random weights are fitted to, float32 (B, 3, S, S)."""
    preprocessing = encoder.preprocessing
    sample = corpus.splits["train"][: encoder.num_calibration_images]
    photos = Photos([(image.path, None) for image in sample], preprocessing)
    for pixels in pixel_batches(photos, batch_size, num_workers):
        yield normalise(pixels, preprocessing)


def describe(corpus: CaptionCorpus, encoder: ImageEncoder) -> dict[str, Any]:
    """What features depend on, in plain values."""
    return {
        "corpus": corpus.fingerprint,
        "encoder": encoder.fingerprint,
        "preprocessing": asdict(encoder.preprocessing),
        "feature_shape": asdict(encoder.feature_shape),
        "encoder_parameters": encoder.num_parameters,
    }


def _name(corpus: CaptionCorpus, encoder: ImageEncoder, view: View | None, with_grid: bool) -> str:
    photos = [[image.path.name, size_of(image.path)] for image in corpus.images]
    contents = [
        _VERSION,
        corpus.fingerprint,
        photos,
        encoder.fingerprint,
        asdict(encoder.preprocessing),
        *([] if view is None else [view.fingerprint]),
        *([] if with_grid else ["pooled"]),
    ]
    digest = hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:12]
    return f"{corpus.name}-{encoder.fingerprint.split('/')[0]}-{digest}"
