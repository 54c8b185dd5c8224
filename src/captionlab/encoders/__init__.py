"""Image encoders: an image in, its `ImageFeatures` out."""

from captionlab.encoders.classifier import ClassifierEncoder
from captionlab.encoders.efficientnet_lite import EfficientNetLite0Encoder
from captionlab.encoders.external import ExternalEncoder
from captionlab.encoders.files import list_encoders, read_encoder
from captionlab.encoders.protocol import Encoder
from captionlab.encoders.restored import RestoredEncoder
from captionlab.encoders.torchvision import TorchvisionEncoder
from captionlab.encoders.xception import XceptionEncoder

__all__ = [
    "ClassifierEncoder",
    "EfficientNetLite0Encoder",
    "Encoder",
    "ExternalEncoder",
    "RestoredEncoder",
    "TorchvisionEncoder",
    "XceptionEncoder",
    "list_encoders",
    "read_encoder",
]
