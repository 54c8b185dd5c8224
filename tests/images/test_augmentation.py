"""Views of training photos: what they are, and how training draws them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from captionlab.batches import ShapesDataModule
from captionlab.batches.datamodule import EpochSampler
from captionlab.encoders import TorchvisionEncoder
from captionlab.images import CropAugmentation, FlipAugmentation, RandomAugmentation
from captionlab.images.augmentation import Augmentation, plain
from captionlab.text import PTBTokenizer, mirror_words
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


@pytest.mark.parametrize("augmentation", EVERY, ids=lambda each: each.fingerprint[:16])
def test_every_view_is_another_picture_of_the_same_size(augmentation: Augmentation) -> None:
    numbers = range(1, augmentation.num_views + 1)
    before = torch.random.get_rng_state()
    views = [augmentation(photo(), PREPROCESSING, number, "a.jpg") for number in numbers]
    again = [augmentation(photo(), PREPROCESSING, number, "a.jpg") for number in numbers]
    assert torch.equal(before, torch.random.get_rng_state()), "nobody else's numbers are drawn"
    seen = [plain(photo(), PREPROCESSING), *views]
    for i, view in enumerate(seen):
        assert view.shape == (3, 32, 32)
        assert view.dtype == torch.uint8
        assert not any(torch.equal(view, other) for other in seen[:i])
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


def test_values_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="enlarge"):
        CropAugmentation(1.0)
    with pytest.raises(ValueError, match="num_views"):
        RandomAugmentation(0, 10, 0.1, 0.1, 5, 1, 0, seed=0)


def module(root: Path, features: Path, augmentation: Augmentation | None) -> ShapesDataModule:
    made = ShapesDataModule(
        num_train=24,
        num_val=8,
        num_test=8,
        image_size=32,
        generator_seed=0,
        root=root,
        encoder=TorchvisionEncoder("resnet18", "none", image_size=64),
        tokenizer=PTBTokenizer(),
        min_count=1,
        max_vocabulary=None,
        max_caption_length=30,
        batch_size=24,
        eval_batch_size=8,
        num_workers=0,
        feature_dir=features,
        encode_batch_size=16,
        device=torch.device("cpu"),
        autocast_dtype=None,
        seed=0,
        augmentation=augmentation,
    )
    made.setup()
    return made


def test_an_epoch_draws_one_view_of_each_image(shapes_root: Path, tmp_path: Path) -> None:
    data = module(shapes_root, tmp_path, FlipAugmentation())
    (mirrored,) = data.views
    assert mirrored.manifest["image_ids"] == [i.image_id for i in data.corpus.splits["train"]]
    assert len(data.val_dataloader()) == 1
    left, right = (data.vocabulary.encode([word])[1] for word in ("left", "right"))
    drawn = []
    for epoch in range(4):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        (batch,) = loader
        assert len(set(batch.image_ids)) == 24
        as_is = data.features.read(batch.image_ids).grid
        flipped = mirrored.read(batch.image_ids).grid
        captions = {image.image_id: image.captions for image in data.corpus.splits["train"]}
        for i, image in enumerate(batch.image_ids):
            is_mirrored = image in batch.mirrored
            assert is_mirrored == torch.equal(batch.features.grid[i], flipped[i])
            assert is_mirrored or torch.equal(batch.features.grid[i], as_is[i])
            said = " ".join(captions[image]).lower().split()
            count = (said.count("left"), said.count("right"))
            found = ((batch.tokens[i] == left).sum(), (batch.tokens[i] == right).sum())
            assert found == (count[::-1] if is_mirrored else count)
            drawn.append((image, is_mirrored))
    share = sum(mirror for _, mirror in drawn) / len(drawn)
    assert 0.35 < share < 0.65
    assert len(set(drawn)) > 40, "over the epochs most images are seen both ways"


def test_without_augmentation_nothing_else_is_encoded(shapes_root: Path, tmp_path: Path) -> None:
    module(shapes_root, tmp_path, None)
    module(shapes_root, tmp_path, FlipAugmentation())
    assert len(list(tmp_path.glob("*/manifest.json"))) == 2


def test_batches_of_like_length_are_still_shuffled() -> None:
    lengths = [(7 * i) % 23 for i in range(400)]
    sampler = EpochSampler(400, 0, True, lengths=lengths, pool=200)
    order = list(sampler)
    assert sorted(order) == list(range(400))
    spread = [
        max(lengths[j] for j in order[i : i + 4]) - min(lengths[j] for j in order[i : i + 4])
        for i in range(0, 400, 4)
    ]
    assert max(spread) <= 1
    firsts = [lengths[order[i]] for i in range(0, 200, 4)]
    assert firsts != sorted(firsts)
    sampler.set_epoch(1)
    assert list(sampler) != order
