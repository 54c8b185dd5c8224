"""Image encoders: an image in, its `ImageFeatures` out."""

from captionlab.encoders.torchvision import TorchvisionEncoder

__all__ = ["TorchvisionEncoder"]
