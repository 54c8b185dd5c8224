"""Views of training photos."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captionlab.images import CropAugmentation, FlipAugmentation, RandomAugmentation
from captionlab.images.augmentation import Augmentation, View, plain
from captionlab.text import mirror_words
from captionlab.types import Preprocessing

PREPROCESSING = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
EVERY: list[Augmentation] = [
    FlipAugmentation(),
    CropAugmentation(1.2),
    RandomAugmentation(3, 10, 0.1, 0.1, 5, 1, 0, seed=0),
    RandomAugmentation(3, 15, 0.1, 0.1, 5, 0.5, 0.4, seed=0),
]


def photo(seed: int = 0) -> Tensor:
    """Smooth, so that no two crops are alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (1, 3, 6, 8), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, (48, 60), mode="bilinear")[0].to(torch.uint8)


@pytest.mark.parametrize(
    "augmentation", EVERY, ids=lambda augmentation: augmentation.fingerprint[:16]
)
def test_every_view_is_another_picture_of_the_same_size(augmentation: Augmentation) -> None:
    numbers = range(1, augmentation.num_views + 1)
    before = torch.random.get_rng_state()
    views = [augmentation(photo(), PREPROCESSING, number, "a.jpg") for number in numbers]
    again = [augmentation(photo(), PREPROCESSING, number, "a.jpg") for number in numbers]
    assert torch.equal(before, torch.random.get_rng_state()), "nobody else's numbers are drawn"
    pictures = [plain(photo(), PREPROCESSING), *views]
    for i, view in enumerate(pictures):
        assert view.shape == (3, 32, 32)
        assert view.dtype == torch.uint8
        assert not any(torch.equal(view, other) for other in pictures[:i])
    assert all(torch.equal(one, other) for one, other in zip(views, again, strict=True))


def test_views_of_odd_number_are_mirrored() -> None:
    flipped = FlipAugmentation()(photo(), PREPROCESSING, 1, "a")
    assert torch.equal(flipped.flip(-1), plain(photo(), PREPROCESSING))
    crops = CropAugmentation(1.2)
    for number in (1, 3, 5, 7, 9):
        one = crops(photo(), PREPROCESSING, number, "a")
        assert torch.equal(one.flip(-1), crops(photo(), PREPROCESSING, number + 1, "a"))
    assert mirror_words(["left", "of", "the", "right", "leg"]) == [
        "right",
        "of",
        "the",
        "left",
        "leg",
    ]


def test_random_views_depend_on_photo_and_seed() -> None:
    first, other = (RandomAugmentation(2, 10, 0.1, 0.1, 5, 1, 0, seed=s) for s in (0, 1))
    view = first(photo(), PREPROCESSING, 1, "a.jpg")
    assert not torch.equal(view, first(photo(), PREPROCESSING, 1, "b.jpg"))
    assert not torch.equal(view, other(photo(), PREPROCESSING, 1, "a.jpg"))
    assert first.fingerprint != other.fingerprint


def test_random_views_of_other_options_have_other_fingerprints() -> None:
    options = {"degrees": 10, "translate": 0.1, "scale": 0.1, "shear": 5, "crop": 0.8}
    options |= {"colour": 0.2, "seed": 0}
    others = {"degrees": 20, "translate": 0.2, "scale": 0.2, "shear": 6, "crop": 0.7}
    others |= {"colour": 0.3, "seed": 1}
    augmentations = [
        RandomAugmentation(num_views=3, **options),
        *(RandomAugmentation(num_views=3, **(options | {k: v})) for k, v in others.items()),
    ]
    views = [View(augmentation, number) for augmentation in augmentations for number in (1, 2)]
    assert len({view.fingerprint for view in views}) == 2 * len(augmentations) == 16
