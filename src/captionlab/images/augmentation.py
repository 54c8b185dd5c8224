"""Other views of training photos, so few that a frozen encoder sees each once, ever.

A view is a photo changed in a way that depends on nothing but the photo's name, the view's number
and a seed. Training draws one of them, or the plain photo, for each image and epoch. Views of odd
number are mirrored, and in their captions left is right.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from captionlab.types import Preprocessing


class Augmentation(ABC):
    """Makes views.

    Attributes:
        num_views: beside the plain photo; they are numbered from 1.
        fingerprint: names all that a view depends on but for its number.
    """

    num_views: int
    fingerprint: str

    @abstractmethod
    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        """One view, uint8 (3, S, S).

        Args:
            photo: uint8 (3, h, w).
            preprocessing: has S and the interpolation.
            view: its number.
            name: of the photo.
        """


class View(NamedTuple):
    """One view of every photo."""

    augmentation: Augmentation
    number: int

    @property
    def fingerprint(self) -> str:
        return f"{self.augmentation.fingerprint}/{self.number}"

    def __call__(self, photo: Tensor, preprocessing: Preprocessing, name: str) -> Tensor:
        """See `Augmentation`."""
        return self.augmentation(photo, preprocessing, self.number, name)


class FlipAugmentation(Augmentation):
    """The mirrored photo."""

    num_views = 1
    fingerprint = "flip"

    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        mirrored: Tensor = functional.horizontal_flip(plain(photo, preprocessing))
        return mirrored


class CropAugmentation(Augmentation):
    """Ten crops: the corners and the centre of an enlarged photo, and these mirrored.

    Args:
        enlarge: the shorter side before the crop, over the encoder's own.

    Source:
        Krizhevsky et al. 2012, sec. 4.1.
    """

    num_views = 10

    def __init__(self, enlarge: float) -> None:
        if enlarge <= 1:
            raise ValueError(f"enlarge must be above 1, found {enlarge}.")
        self.enlarge = enlarge
        self.fingerprint = f"crop-{enlarge}"

    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        size = preprocessing.image_size
        larger = _resize(photo, round(preprocessing.resize_size * self.enlarge), preprocessing)
        crops = functional.five_crop(larger, [size, size])
        crop: Tensor = crops[(view - 1) // 2]
        return functional.horizontal_flip(crop) if is_mirrored(view) else crop


class RandomAugmentation(Augmentation):
    """Turned, moved, scaled, sheared, cropped and recoloured at random, and every other mirrored.

    Args:
        num_views: more cost disk and encoding, once, where the encoder is frozen.
        degrees: largest turn.
        translate: largest move, as a share of the side.
        scale: largest enlargement and shrinking, as a share.
        shear: largest, in degrees.
        crop: least share of the area that is kept; 1 for no crop.
        colour: largest change of brightness, contrast and saturation, as a share.
        seed: of all this.
    """

    def __init__(
        self,
        num_views: int,
        degrees: float,
        translate: float,
        scale: float,
        shear: float,
        crop: float,
        colour: float,
        seed: int,
    ) -> None:
        if num_views < 1 or not 0 < crop <= 1 or min(degrees, translate, scale, shear, colour) < 0:
            raise ValueError(
                "num_views must be at least 1, crop in (0, 1] and the others not negative, found "
                f"{[num_views, crop, degrees, translate, scale, shear, colour]}."
            )
        self.num_views = num_views
        self.seed = seed
        self.crop = crop
        settings = (degrees, translate, scale, shear, crop, colour, seed)
        self.fingerprint = "-".join(map(str, ("random", *settings)))
        affine = v2.RandomAffine(
            degrees,
            (translate, translate),
            (1 - scale, 1 + scale),
            shear,
            InterpolationMode.BILINEAR,
            fill=128,
        )
        jitter = v2.ColorJitter(colour, colour, colour)  # no hue: captions name colours
        self._change = v2.Compose([affine, jitter] if colour else [affine])

    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        told = f"{self.seed} {view} {name}".encode()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(told).digest()[:7]))
            if self.crop < 1:
                mode = InterpolationMode(preprocessing.interpolation)
                cut = v2.RandomResizedCrop(
                    preprocessing.image_size, (self.crop, 1.0), interpolation=mode
                )
                photo = cut(photo)
            changed: Tensor = self._change(plain(photo, preprocessing))
        return functional.horizontal_flip(changed) if is_mirrored(view) else changed


def plain(photo: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The photo as the weights want it: the shorter side resized, the centre cropped.

    A photo that already has the size is not resampled.
    """
    resized = _resize(photo, preprocessing.resize_size, preprocessing)
    cropped: Tensor = functional.center_crop(resized, [preprocessing.image_size])
    return cropped


def is_mirrored(view: int) -> bool:
    """Whether the views of this number are mirrored; 0 is the plain photo."""
    return view % 2 == 1


def _resize(photo: Tensor, size: int, preprocessing: Preprocessing) -> Tensor:
    if min(photo.shape[1:]) == size:
        return photo
    mode = InterpolationMode(preprocessing.interpolation)
    resized: Tensor = functional.resize(photo, [size], mode, antialias=True)
    return resized
