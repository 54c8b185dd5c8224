"""Items put together into batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from captionlab.batches.captions import Item
from captionlab.images.augmentation import is_mirrored
from captionlab.images.pixels import Photos, stack
from captionlab.types import PAD_ID, CaptionBatch, ImageFeatures, PixelBatch


class ItemsWithPhotos(Dataset[tuple[Item, Tensor | str]]):
    """Each item and its photo, or why that cannot be read."""

    def __init__(self, items: Sequence[Item], photos: Photos) -> None:
        self.items = items
        self.photos = photos

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Item, Tensor | str]:
        return self.items[index], self.photos[index]


def caption_batch(items: Sequence[Item], features: ImageFeatures) -> CaptionBatch:
    """Items with the features of their images, in the same order."""
    image_ids = tuple(item.image_id for item in items)
    return CaptionBatch(image_ids, features, pad_captions(items), mirrored_images(items))


def pixel_batch(rows: Sequence[tuple[Item, Tensor | str]]) -> PixelBatch | str:
    """A batch, or why one of its photos cannot be read."""
    items = [item for item, _ in rows]
    pixels = stack([photo for _, photo in rows])
    if isinstance(pixels, str):
        return pixels
    image_ids = tuple(item.image_id for item in items)
    return PixelBatch(image_ids, pixels, pad_captions(items), mirrored_images(items))


def mirrored_images(items: Sequence[Item]) -> frozenset[str]:
    """Ids of the images of those that are mirrored views."""
    return frozenset(item.image_id for item in items if is_mirrored(item.view))


def pad_captions(items: Sequence[Item]) -> Tensor:
    """Captions as int64 (B, N, T), see `CaptionBatch`."""
    num_captions = max(len(item.captions) for item in items)
    rows: list[Tensor] = []
    for item in items:
        rows += [torch.tensor(caption) for caption in item.captions]
        rows += [torch.zeros(0, dtype=torch.int64)] * (num_captions - len(item.captions))
    tokens = pad_sequence(rows, batch_first=True, padding_value=PAD_ID)
    return tokens.view(len(items), num_captions, -1)  # (B, N, T)
