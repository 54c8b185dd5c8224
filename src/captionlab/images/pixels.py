"""Photos as an encoder's pixels, decoded in worker processes ahead of their use."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from captionlab.errors import DataError
from captionlab.images.augmentation import View
from captionlab.images.photos import num_cores
from captionlab.images.preprocessing import read_pixels
from captionlab.types import Preprocessing


class Photos(Dataset[Tensor | str]):
    """Items are pixels, uint8 (3, S, S), or the reason why a photo cannot be read.

    Args:
        photos: files, each with one of its views; None for the plain photo.
        preprocessing: of the encoder.
    """

    def __init__(
        self, photos: Sequence[tuple[Path, View | None]], preprocessing: Preprocessing
    ) -> None:
        self.photos = photos
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Tensor | str:
        path, view = self.photos[index]
        try:
            return read_pixels(path, self.preprocessing, view)
        except DataError as error:
            return str(error)  # a worker would wrap it in its own traceback

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor | str]:
        """A batch of items; without worker processes, threads decode plain photos."""
        # Views draw from torch's generator, which threads share.
        is_plain = all(self.photos[index][1] is None for index in indices)
        if get_worker_info() is not None or not is_plain:
            return [self[index] for index in indices]
        # Threads that ignore Pillow's warnings restore each other's filters: restore the first.
        with warnings.catch_warnings(), ThreadPoolExecutor(num_cores()) as pool:
            return list(pool.map(self.__getitem__, indices))


def stack(photos: Sequence[Tensor | str]) -> Tensor | str:
    """All pixels, uint8 (B, 3, S, S), or the reason why one photo cannot be read."""
    unreadable = [photo for photo in photos if isinstance(photo, str)]
    if unreadable:
        return unreadable[0]
    return torch.stack([photo for photo in photos if isinstance(photo, Tensor)])


def pixel_batches(photos: Photos, batch_size: int, num_workers: int) -> Iterator[Tensor]:
    """Decoded photos in order, uint8 (B, 3, S, S).

    The workers start at once: forked before the encoder is loaded, they take little memory.

    Raises:
        DataError: if a photo cannot be read.
    """
    loader: Any = DataLoader(
        photos, batch_size=batch_size, num_workers=num_workers, collate_fn=stack
    )
    return map(_checked, iter(loader))


def _checked(batch: Tensor | str) -> Tensor:
    if isinstance(batch, str):
        raise DataError(batch)
    return batch
