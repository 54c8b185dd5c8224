"""Image encoders: an image in, its `ImageFeatures` out."""

from captionlab.encoders.torchvision import TorchvisionEncoder
from captionlab.encoders.xception import XceptionEncoder

__all__ = ["TorchvisionEncoder", "XceptionEncoder"]
