"""Images: a photo on disk in, pixels out. Augmentations bring torch, and decoding does not."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captionlab.images.augmentation import (
        CropAugmentation,
        FlipAugmentation,
        RandomAugmentation,
    )

__all__ = ["CropAugmentation", "FlipAugmentation", "RandomAugmentation"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from captionlab.images import augmentation

    return getattr(augmentation, name)
