"""Photos as an encoder's pixels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captionlab.errors import DataError
from captionlab.images.augmentation import RandomAugmentation, View
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.images.preprocessing import normalise
from captionlab.types import Preprocessing

PREPROCESSING = Preprocessing(16, 16, "bilinear", (0.5,) * 3, (0.5,) * 3)


def test_each_channel_is_normalised_by_its_own_mean_and_deviation() -> None:
    preprocessing = Preprocessing(1, 1, "bilinear", (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    normalised = normalise(pixels, preprocessing).flatten().tolist()
    assert normalised == pytest.approx([-1.0, 3.0, 0.1])


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    found = [tmp_path / f"{i}.png" for i in range(12)]
    for path in found:
        Image.fromarray(random.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(path)
    return found


@pytest.mark.parametrize("with_views", [False, True])
def test_a_batch_holds_the_photos_one_by_one_in_order(with_views: bool, paths: list[Path]) -> None:
    augmentation = RandomAugmentation(1, 10, 0.1, 0.1, 5, 0.8, 0.2, seed=0)
    view = View(augmentation, 1) if with_views else None
    photos = Photos([(path, view) for path in paths], PREPROCESSING)
    filters = list(warnings.filters)
    expected = [photos[i] for i in range(len(photos))]
    for num_workers in (0, 1):
        batches = torch.cat(list(pixel_batches(photos, 5, num_workers)))
        assert len(batches) == len(expected)
        for found, wanted in zip(batches, expected, strict=True):
            assert isinstance(wanted, torch.Tensor)
            assert torch.equal(found, wanted)
    assert list(warnings.filters) == filters


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_first_unreadable_photo_of_a_batch_is_named(
    num_workers: int, paths: list[Path]
) -> None:
    for number in (3, 4):
        paths[number].write_bytes(b"no image")
    photos = Photos([(path, None) for path in paths], PREPROCESSING)
    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        list(pixel_batches(photos, 12, num_workers))
