"""Encoders with random weights, and images for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from captionlab.encoders import EfficientNetLite0Encoder, TorchvisionEncoder, XceptionEncoder
from captionlab.encoders.classifier import ClassifierEncoder

CPU = torch.device("cpu")


def make_encoder(architecture: str, **options: Any) -> ClassifierEncoder:
    """An encoder of any architecture, with random weights unless `options` names others."""
    options = {"weights": "none", **options}
    if architecture == "xception":
        return XceptionEncoder(**options)
    if architecture == "efficientnet_lite0":
        return EfficientNetLite0Encoder(**options)
    return TorchvisionEncoder(architecture, **options)


def noise(num_images: int, size: int = 64) -> torch.Tensor:
    """Independent pixels, float32 (B, 3, size, size)."""
    return torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(0))


def blobs(num_images: int, size: int) -> torch.Tensor:
    """Images that differ as photos do: in their coarse colours."""
    return nn.functional.interpolate(noise(num_images, 4), (size, size), mode="bilinear")
