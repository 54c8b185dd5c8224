"""What the demo shows: models, and photos to try them on."""

from __future__ import annotations

import io
import math
import random
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from captionlab.captioner.parts import build_dataset
from captionlab.captioner.photo_captioner import PhotoCaptioner
from captionlab.captioner.saliency import Method
from captionlab.errors import CaptionLabError, DataError
from captionlab.images.photos import read_image
from captionlab.run_files import RunFiles

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
_NUM_CAPTIONS = 3
_NUM_EXAMPLES = 12
_STEPS = 15  # of weight, a hexadecimal digit each
_PREVIEW_SIDE = 1000


@dataclass(frozen=True)
class Example:
    """A photo of a run's test split.

    Attributes:
        path: of the photo.
        references: what people wrote about it.
    """

    path: Path
    references: tuple[str, ...]


@dataclass(frozen=True)
class DemoModel:
    """A model on the page.

    Attributes:
        name: of its run or file.
        captioner: of it.
    """

    name: str
    captioner: PhotoCaptioner

    @classmethod
    def of(cls, captioner: PhotoCaptioner) -> DemoModel:
        """A model by the name of its run or file."""
        path = captioner.target.resolve()
        in_run = path.parent == RunFiles(path.parent.parent).checkpoints
        return cls(path.parent.parent.name if in_run else path.name, captioner)

    def facts(self) -> dict[str, Any]:
        """What the page says of the model before it has seen a photo."""
        return {
            "name": self.name,
            "methods": ["attention"] * self.captioner.attends + [*get_args(Method)],
            "seen": self.captioner.crop_share,
        }

    def caption(self, photo: Image.Image, method: str | None = None) -> dict[str, Any]:
        """What the model says about a photo, in JSON types; maps have a digit per position.

        Args:
            photo: upright RGB.
            method: what maps of words are: one of the model's `methods`, or None for no maps.

        Raises:
            ConfigError: if the model has no such method.
        """
        began = time.perf_counter()
        said = self.captioner(
            photo,
            n_best=min(_NUM_CAPTIONS, self.captioner.max_captions),
            attention=method == "attention",
            explain=None if method == "attention" else method,  # type: ignore[arg-type]
        )
        found = [word.attention if word.saliency is None else word.saliency for word in said.words]
        maps = [weights for weights in found if weights is not None]
        shape = maps[0].shape if maps else (0, 0)
        one_scale = method == "occlusion"  # words that depend on no part stay dark
        digits = _digits(np.stack(maps), one_scale) if maps else [""] * len(said.words)
        return {
            "text": said.text,
            "probability": said.probability,
            "truncated": said.truncated,
            "words": [
                {"text": word.text, "probability": word.probability, "map": digits_of_word}
                for word, digits_of_word in zip(said.words, digits, strict=True)
            ],
            "rows": shape[0],
            "columns": shape[1],
            "alternatives": [
                {"text": other.text, "probability": math.exp(other.log_probability)}
                for other in said.alternatives[1:]
            ],
            "seconds": time.perf_counter() - began,
        }


def read_photo(content: bytes) -> Image.Image:
    """An uploaded photo, upright.

    Raises:
        DataError: if it cannot be read, or is too large.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of many pixels, which are counted here
            Image.open(io.BytesIO(content)) as opened,
        ):
            num_pixels = opened.width * opened.height
    except Exception:  # what is wrong with it is said below
        num_pixels = 0
    if num_pixels > MAX_PIXELS:
        raise DataError(
            f"this photo has {num_pixels / 1e6:.0f} million pixels; the demo takes at most "
            f"{MAX_PIXELS / 1e6:.0f} million."
        )
    return read_image(content, "you gave")


def preview(photo: Image.Image) -> bytes:
    """A JPEG for the page."""
    small = photo.copy()
    small.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88)
    return file.getvalue()


def read_examples(target: Path) -> list[Example]:
    """Some photos of a run's test split; none where the run or its photos are not on disk."""
    config = RunFiles(target).config_path
    try:
        corpus = build_dataset(yaml.safe_load(config.read_text(encoding="utf-8"))).read_captions()
    except (OSError, CaptionLabError, LookupError, TypeError, yaml.YAMLError):
        return []  # a checkpoint, an exported file, or a data set that is elsewhere
    images: Sequence[Any] = corpus.splits["test"]
    chosen = random.Random(0).sample(images, min(_NUM_EXAMPLES, len(images)))
    return [Example(image.path, image.captions) for image in chosen if image.path.is_file()]


def _digits(maps: NDArray[np.float32], one_scale: bool) -> list[str]:
    """Weights (T, rows, columns) as a text per word, on a scale of its own unless all share one.

    Negative ones are 0.
    """
    largest = np.maximum(maps.max(None if one_scale else (1, 2), keepdims=True), 1e-9)
    steps = np.rint(np.maximum(maps, 0) / largest * _STEPS).astype(int)
    return ["".join(f"{step:x}" for step in word.ravel()) for word in steps]
