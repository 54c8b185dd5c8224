"""Batches of a corpus, split by split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from captionlab.batches import Loaders, Sharing, TokenizedCorpus, encode_captions
from captionlab.corpora import CaptionCorpus
from captionlab.corpora.datasets import CaptionDataset, CaptionFolder, Shapes
from captionlab.errors import DataError
from captionlab.features.source import StoredFeatures
from captionlab.images import FlipAugmentation
from captionlab.images.augmentation import Augmentation, View
from captionlab.text import PTBTokenizer, Vocabulary
from captionlab.types import END_ID, PAD_ID, START_ID
from tests.features.test_store import MeanColour
from tests.support import fakes


class Parts(NamedTuple):
    corpus: CaptionCorpus
    vocabulary: Vocabulary
    source: StoredFeatures
    loaders: Loaders


def shapes(folder: Path, **options: Any) -> Shapes:
    return Shapes(
        str(folder / "shapes"),
        num_train=20,
        num_val=6,
        num_test=6,
        image_size=32,
        generator_seed=0,
        cache_dir=folder,
        num_workers=0,
        **options,
    )


def make(
    dataset: CaptionDataset,
    features: Path,
    *,
    max_caption_length: int = 30,
    augmentation: Augmentation | None = None,
) -> Parts:
    corpus = dataset.read()
    tokenized = TokenizedCorpus.of(corpus, PTBTokenizer())
    vocabulary = tokenized.vocabulary(1, None)
    num_views = augmentation.num_views if augmentation else 0
    views = [View(augmentation, i + 1) for i in range(num_views)] if augmentation else []
    source = StoredFeatures(
        MeanColour(),
        features,
        batch_size=8,
        num_workers=0,
        stored_features="all",
        device=torch.device("cpu"),
        autocast_dtype=None,
    )
    source.prepare(corpus, views)
    items = encode_captions(tokenized, vocabulary, max_caption_length, num_views)
    sizes = {"batch_size": 8, "eval_batch_size": 4, "group_by_length": False}
    loaders = Loaders(corpus, items, source, views, seed=3, **sizes)
    return Parts(corpus, vocabulary, source, loaders)


def test_a_batch_has_a_row_per_image_with_all_its_captions(tmp_path: Path) -> None:
    parts = make(shapes(tmp_path), tmp_path)
    batch = next(iter(parts.loaders.evaluation("val")))
    assert batch.image_ids == tuple(image.image_id for image in parts.corpus.splits["val"][:4])
    assert batch.tokens.shape[:2] == (4, 5)
    assert batch.features.grid.shape == (4, 4, 3)
    assert (batch.tokens[:, :, 0] == START_ID).all()
    assert ((batch.tokens == END_ID).sum(-1) == 1).all()
    assert (batch.tokens[..., -1] != PAD_ID).any(), "padded to the longest caption of the batch"
    words = parts.vocabulary.decode(batch.tokens[0, 0].tolist())
    assert words == " ".join(PTBTokenizer()(parts.corpus.splits["val"][0].captions[0]))


def test_bad_photos_stop_a_run_unless_they_are_to_be_skipped(tmp_path: Path) -> None:
    shapes(tmp_path).read()
    (photo,) = (tmp_path / "shapes").glob("*/images/train_00004.jpg")
    photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"train_00004\.jpg cannot be read"):
        make(shapes(tmp_path), tmp_path)
    parts = make(shapes(tmp_path, on_bad_image="skip"), tmp_path)
    assert len(parts.corpus.splits["train"]) == 19
    assert parts.corpus.name == "shapes-less-1"
    assert sum(len(batch) for batch in parts.loaders.train()) == 19


def test_the_vocabulary_comes_from_training_captions_alone(tmp_path: Path) -> None:
    parts = make(shapes(tmp_path), tmp_path)
    training = {
        word
        for image in parts.corpus.splits["train"]
        for caption in image.captions
        for word in PTBTokenizer()(caption)
    }
    assert set(parts.vocabulary.to_list()[4:]) == training


def test_long_captions_are_cut(tmp_path: Path) -> None:
    batch = next(iter(make(shapes(tmp_path), tmp_path, max_caption_length=3).loaders.train()))
    assert batch.tokens.shape[-1] == 5


def test_training_needs_all_three_splits(tmp_path: Path) -> None:
    def own() -> CaptionFolder:
        return CaptionFolder(str(tmp_path / "own"), cache_dir=tmp_path, num_workers=0)

    file = fakes.own_csv(tmp_path / "own")
    parts = make(own(), tmp_path / "features")
    assert parts.corpus.name == "own"
    assert len(next(iter(parts.loaders.evaluation("test")))) == 3
    file.write_text(file.read_text().replace(",val", ",test"))
    with pytest.raises(DataError, match="the val split has no images"):
        own().read().require("train", "val", "test")


def test_an_epoch_draws_one_view_of_each_image(tmp_path: Path) -> None:
    corpus, vocabulary, source, loaders = make(
        shapes(tmp_path), tmp_path, augmentation=FlipAugmentation()
    )
    store, mirrored = (source.open(corpus, view) for view in (None, *loaders.views))
    assert mirrored.manifest["image_ids"] == [i.image_id for i in corpus.splits["train"]]
    left, right = (vocabulary.encode([word])[1] for word in ("left", "right"))
    captions = {image.image_id: image.captions for image in corpus.splits["train"]}
    drawn = []
    for epoch in range(6):
        loader = loaders.train()
        loader.steps.sampler.set_epoch(epoch)
        for batch in loader:
            plain, flipped = (s.read(batch.image_ids).grid for s in (store, mirrored))
            for i, image in enumerate(batch.image_ids):
                is_mirrored = image in batch.mirrored
                expected = flipped if is_mirrored else plain
                assert torch.equal(batch.features.grid[i], expected[i])
                words = " ".join(captions[image]).lower().split()
                count = (words.count("left"), words.count("right"))
                counted = ((batch.tokens[i] == left).sum(), (batch.tokens[i] == right).sum())
                assert counted == (count[::-1] if is_mirrored else count)
                drawn.append((image, is_mirrored))
    assert len(drawn) == 6 * 20, "each image once in every epoch"
    share = sum(mirror for _, mirror in drawn) / len(drawn)
    assert 0.35 < share < 0.65
    assert len(set(drawn)) > 34, "over the epochs most images are seen both ways"


def test_without_augmentation_nothing_else_is_encoded(tmp_path: Path) -> None:
    features = tmp_path / "features"
    make(shapes(tmp_path), features)
    make(shapes(tmp_path), features, augmentation=FlipAugmentation())
    assert len(list(features.glob("*/manifest.json"))) == 2


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_accumulated_parts_are_the_whole_batch(tmp_path: Path, num_ranks: int) -> None:
    loaders = make(shapes(tmp_path), tmp_path).loaders
    whole = [batch.image_ids for batch in loaders.train()]
    seen: list[tuple[str, ...]] = [() for _ in whole]
    for rank in range(num_ranks):
        loader = loaders.train(Sharing(num_ranks, 2, rank))
        parts = list(loader)
        assert len(parts) == len(loader) == 2 * len(whole)
        for i, (first, second) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
            assert first.whole.image_ids == first.part.image_ids + second.part.image_ids
            assert second.whole is None
            both = torch.cat([first.part.features.grid, second.part.features.grid])
            assert torch.equal(both, first.whole.features.grid)
            seen[i] += first.whole.image_ids
    assert seen == whole


def test_processes_share_evaluation_and_count_no_image_twice(tmp_path: Path) -> None:
    loaders = make(shapes(tmp_path), tmp_path).loaders
    seen = [
        image
        for rank in range(4)
        for batch in loaders.evaluation("val", Sharing(4, rank=rank))
        for image in batch.image_ids
    ]
    assert sorted(seen) == [image.image_id for image in loaders.corpus.splits["val"]]
