"""Image encoders: an image in, its `ImageFeatures` out."""

from collections.abc import Iterator

from captionlab.encoders.classifier import ClassifierEncoder
from captionlab.encoders.torchvision import TorchvisionEncoder
from captionlab.encoders.xception import XceptionEncoder

__all__ = ["ClassifierEncoder", "TorchvisionEncoder", "XceptionEncoder", "shipped_encoders"]

_SHIPPED = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg19"),
    *("inception_v3", "densenet121", "efficientnet_v2_s", "convnext_tiny", "vit_b_16", "swin_t"),
)


def shipped_encoders() -> Iterator[tuple[str, ClassifierEncoder]]:
    """Those that have a file of their own in `conf/encoder`, at their own size, without weights."""
    for name in _SHIPPED:
        yield name, TorchvisionEncoder(name, weights="none")
    yield "xception", XceptionEncoder(weights="none")
