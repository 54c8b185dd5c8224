"""A photo's file in, an encoder's input out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from captionlab.data.photos import read_image
from captionlab.types import Preprocessing


def read_pixels(path: Path, preprocessing: Preprocessing) -> Tensor:
    """Decode, turn upright, make RGB, resize the shorter side and crop the centre.

    Returns:
        uint8 (3, S, S). A photo that already has the size is not resampled.

    Raises:
        DataError: if the file cannot be decoded; it names the file.
    """
    pixels = torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1)
    if min(pixels.shape[1:]) != preprocessing.resize_size:
        mode = InterpolationMode(preprocessing.interpolation)
        pixels = functional.resize(pixels, [preprocessing.resize_size], mode, antialias=True)
    cropped: Tensor = functional.center_crop(pixels, [preprocessing.image_size])
    return cropped


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """From uint8 (B, 3, S, S) to float32, less the mean and over the deviation per channel."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std
