"""A photo's file in, an encoder's input out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionlab.images.augmentation import View, plain
from captionlab.images.photos import read_image
from captionlab.types import Preprocessing


def read_pixels(path: Path, preprocessing: Preprocessing, view: View | None = None) -> Tensor:
    """Decode a photo, and resize and crop it to the encoder's plain input or to one of its views.

    Returns:
        uint8 (3, S, S).

    Raises:
        DataError: if the file cannot be decoded; it names the file.
    """
    image = read_image(path)
    if view is None:
        return plain_pixels(image, preprocessing)
    return view(_to_tensor(image), preprocessing, path.name)


def plain_pixels(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """A decoded RGB photo, resized and cropped to the encoder's input.

    Returns:
        uint8 (3, S, S).
    """
    return plain(_to_tensor(image), preprocessing)


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Pixels uint8 (B, 3, S, S) as float32, minus the mean and divided by the std per channel."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
