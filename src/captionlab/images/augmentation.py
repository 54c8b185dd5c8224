"""Precomputed augmented views of training photos, each encoded once by a frozen encoder.

A view is a photo changed in a way that depends on nothing but the photo's name, the view's number
and a seed. For each image and epoch, training draws one of the views or the plain photo. Views of
odd number are mirrored; in their captions left and right are exchanged.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from captionlab.options import Count, Natural, NonNegative
from captionlab.seeding import seeded_by
from captionlab.types import Preprocessing

Share = Annotated[float, Ge(0), Le(1)]


class Augmentation(ABC):
    """Makes views of a photo.

    Attributes:
        num_views: number of views besides the plain photo; they are numbered from 1.
        fingerprint: names everything that a view depends on besides photo and number.
    """

    num_views: int
    fingerprint: str

    @abstractmethod
    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        """One view, uint8 (3, S, S).

        Args:
            photo: uint8 (3, h, w).
            preprocessing: of the encoder, with S and the interpolation.
            view: number of the view.
            name: of the photo's file.
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
        return plain(photo, preprocessing).flip(-1)


class CropAugmentation(Augmentation):
    """Ten crops: the corners and the centre of an enlarged photo, and these mirrored.

    Args:
        enlarge: length of the shorter side before the crop, relative to the encoder's size.

    Source:
        Krizhevsky et al. 2012, sec. 4.1.
    """

    num_views = 10

    def __init__(self, enlarge: Annotated[float, Gt(1)]) -> None:
        self.enlarge = enlarge
        self.fingerprint = f"crop-{enlarge}"

    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        size = preprocessing.image_size
        larger = _resize(photo, round(preprocessing.resize_size * self.enlarge), preprocessing)
        crops = _transforms().functional.five_crop(larger, [size, size])
        crop: Tensor = crops[(view - 1) // 2]
        return crop.flip(-1) if is_mirrored(view) else crop


class RandomAugmentation(Augmentation):
    """Random rotation, translation, scale, shear, crop and colour; every other view is mirrored.

    Args:
        num_views: number of views; each takes as much disk and encoding as the plain photos.
        degrees: largest rotation.
        translate: largest translation, as a share of the side.
        scale: largest enlargement or shrinking, as a share.
        shear: largest shear, in degrees.
        crop: smallest share of the area that is kept; 1 for no crop.
        colour: largest change of brightness, contrast and saturation, as a share.
        seed: of all random choices.
    """

    def __init__(
        self,
        num_views: Count,
        degrees: NonNegative,
        translate: Share,
        scale: Annotated[float, Ge(0), Lt(1)],
        shear: NonNegative,
        crop: Annotated[float, Gt(0), Le(1)],
        colour: Share,
        seed: Natural,
    ) -> None:
        self.num_views = num_views
        self.seed = seed
        self.crop = crop
        settings = (degrees, translate, scale, shear, crop, colour, seed)
        self.fingerprint = "-".join(map(str, ("random", *settings)))
        v2 = _transforms()
        affine = v2.RandomAffine(
            degrees,
            (translate, translate),
            (1 - scale, 1 + scale),
            shear,
            v2.InterpolationMode.BILINEAR,
            fill=128,
        )
        jitter = v2.ColorJitter(colour, colour, colour)  # no hue: captions name colours
        self._change = v2.Compose([affine, jitter] if colour else [affine])

    def __call__(self, photo: Tensor, preprocessing: Preprocessing, view: int, name: str) -> Tensor:
        key = f"{self.seed} {view} {name}".encode()
        with seeded_by(int.from_bytes(hashlib.sha256(key).digest()[:7])):
            if self.crop < 1:
                v2 = _transforms()
                mode = v2.InterpolationMode(preprocessing.interpolation)
                cut = v2.RandomResizedCrop(
                    preprocessing.image_size, (self.crop, 1.0), interpolation=mode
                )
                photo = cut(photo)
            changed: Tensor = self._change(plain(photo, preprocessing))
        return changed.flip(-1) if is_mirrored(view) else changed


def plain(photo: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The photo as the encoder's weights expect it: the shorter side resized, the centre cropped.

    A photo that already has the size is not resampled.
    """
    resized = _resize(photo, preprocessing.resize_size, preprocessing)
    size = [preprocessing.image_size]
    cropped: Tensor = _transforms().functional.center_crop(resized, size)
    return cropped


def is_mirrored(view: int) -> bool:
    """Whether the views of this number are mirrored; 0 is the plain photo."""
    return view % 2 == 1


def _resize(photo: Tensor, size: int, preprocessing: Preprocessing) -> Tensor:
    if min(photo.shape[1:]) == size:
        return photo
    v2 = _transforms()
    mode = v2.InterpolationMode(preprocessing.interpolation)
    resized: Tensor = v2.functional.resize(photo, [size], mode, antialias=True)
    return resized


def _transforms() -> Any:
    """Imported late: torchvision takes a second, and options are read at every start."""
    from torchvision.transforms import v2

    return v2
