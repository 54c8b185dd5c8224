"""Images: a photo on disk in, pixels out."""

from captionlab.images.augmentation import (
    CropAugmentation,
    FlipAugmentation,
    RandomAugmentation,
)

__all__ = ["CropAugmentation", "FlipAugmentation", "RandomAugmentation"]
