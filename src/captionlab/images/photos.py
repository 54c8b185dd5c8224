"""Decoding photos of any kind, or one line that names the file and what is wrong with it."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from captionlab.errors import DataError
from captionlab.files import digest
from captionlab.progress import bar

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_NARROWEST = 50  # longer side over shorter; beyond it, resizing the shorter side fills the memory


def read_image(source: Path | bytes | Image.Image, name: str | None = None) -> Image.Image:
    """Decode a photo of any kind that Pillow knows, upright, as 8-bit RGB.

    Of an animation it is the first frame. Transparent pixels become white, as in a browser. 16-bit
    grey is scaled to 8 bits, where Pillow would clip it.

    Args:
        source: a file, its content, or what Pillow has opened already, which is not modified.
        name: what errors call the photo; None for the path.

    Raises:
        DataError: if it cannot be decoded, has more pixels than Pillow allows, or is too narrow for
            a photo; it names the photo.
    """
    name = str(source) if name is None else name
    try:
        with warnings.catch_warnings(action="ignore"):
            if isinstance(source, Image.Image):
                image = _to_rgb(ImageOps.exif_transpose(source))
            else:
                file = io.BytesIO(source) if isinstance(source, bytes) else source
                with Image.open(file) as opened:
                    image = _to_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError as error:
        raise DataError(f"photo {name} cannot be read: {_first_bytes(source)}.") from error
    except Exception as error:  # Pillow's parsers raise many kinds for a damaged file
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(
            f"photo {name} cannot be read: {(reason or type(error).__name__).rstrip('.')}."
        ) from error
    if max(image.size) > _NARROWEST * min(image.size):
        raise DataError(
            f"photo {name} has {image.width}x{image.height} pixels; "
            f"one side may be at most {_NARROWEST} times the other."
        )
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("it has floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):  # I;16, I;16B; I before Pillow 11
        sixteen = np.asarray(image).astype(np.int64)
        if sixteen.min() < 0 or sixteen.max() > 65535:
            raise ValueError("it has 32-bit pixels, whose range is unknown")
        return Image.fromarray((sixteen // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _first_bytes(source: Path | bytes | Image.Image) -> str:
    first = b""
    if isinstance(source, bytes):
        first = source[:20]
    elif isinstance(source, Path):
        with source.open("rb") as file:
            first = file.read(20)
    return f"it is no image, it begins with {first!r}" if first else "it is empty"


class _Examined:
    """A data set as torch's DataLoader takes it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, str]:
        path = self.paths[index]
        try:
            read_image(path)
            return "", digest(path)
        except DataError as error:
            return str(error), ""


def num_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def examine_photos(paths: Sequence[Path], num_workers: int) -> Iterator[tuple[str, str]]:
    """Decode every photo, in worker processes if there are any.

    Yields:
        For each path, in order: the reason why it cannot be read, and an empty string; or an empty
        string, and the SHA-256 of its bytes.
    """
    photos, loader = _Examined(paths), None
    if num_workers:
        from torch.utils.data import DataLoader  # late: it takes a second to import

        loader = DataLoader(
            cast(Any, photos), batch_size=32, num_workers=num_workers, collate_fn=list
        )
    with bar("decoding photos", len(paths), "photos") as shown:
        for batch in loader or ([photos[i]] for i in range(len(photos))):
            shown.advance(len(batch))
            yield from batch
