"""Batches."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch

from captionlab.batches import FolderDataModule, ShapesDataModule
from captionlab.batches.datamodule import EpochSampler
from captionlab.errors import DataError
from captionlab.text import PTBTokenizer
from captionlab.types import END_ID, PAD_ID, START_ID
from tests.features.test_store import MeanColour
from tests.support import fakes


def make(folder: Path, **options: object) -> ShapesDataModule:
    defaults: dict[str, object] = {
        "min_count": 1,
        "max_vocabulary": None,
        "max_caption_length": 30,
        "batch_size": 8,
    }
    datamodule = ShapesDataModule(
        root=folder / "shapes",
        num_train=20,
        num_val=6,
        num_test=6,
        image_size=32,
        generator_seed=0,
        encoder=MeanColour(),
        tokenizer=PTBTokenizer(),
        eval_batch_size=4,
        num_workers=0,
        feature_dir=folder / "features",
        encode_batch_size=8,
        device=torch.device("cpu"),
        autocast_dtype=None,
        seed=3,
        **(defaults | options),
    )
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_a_batch_has_a_row_per_image_with_all_its_captions(tmp_path: Path) -> None:
    datamodule = make(tmp_path)
    batch = next(iter(datamodule.val_dataloader()))
    assert batch.image_ids == tuple(image.image_id for image in datamodule.corpus.splits["val"][:4])
    assert batch.tokens.shape[:2] == (4, 5)
    assert batch.features.grid.shape == (4, 4, 3)
    assert (batch.tokens[:, :, 0] == START_ID).all()
    assert ((batch.tokens == END_ID).sum(-1) == 1).all()
    assert (batch.tokens[..., -1] != PAD_ID).any(), "padded to the longest caption of the batch"
    words = datamodule.vocabulary.decode(batch.tokens[0, 0].tolist())
    assert words == " ".join(PTBTokenizer()(datamodule.corpus.splits["val"][0].captions[0]))


def test_bad_photos_stop_a_run_unless_they_are_to_be_skipped(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "shapes" / "images" / "train_00004.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"train_00004\.jpg cannot be read"):
        make(tmp_path)
    datamodule = make(tmp_path, on_bad_image="skip")
    assert len(datamodule.corpus.splits["train"]) == 19
    assert datamodule.corpus.name == "shapes-less-1"
    assert sum(len(batch) for batch in datamodule.train_dataloader()) == 19


def test_the_vocabulary_comes_from_training_captions_alone(tmp_path: Path) -> None:
    datamodule = make(tmp_path)
    training = {
        word
        for image in datamodule.corpus.splits["train"]
        for caption in image.captions
        for word in PTBTokenizer()(caption)
    }
    assert set(datamodule.vocabulary.to_list()[4:]) == training


def test_long_captions_are_cut(tmp_path: Path) -> None:
    batch = next(iter(make(tmp_path, max_caption_length=3).train_dataloader()))
    assert batch.tokens.shape[-1] == 5


def test_training_needs_all_three_splits(tmp_path: Path) -> None:
    def own() -> FolderDataModule:
        return FolderDataModule(
            root=tmp_path / "own",
            dialect="auto",
            split_seed=0,
            encoder=MeanColour(),
            tokenizer=PTBTokenizer(),
            min_count=1,
            max_vocabulary=None,
            max_caption_length=30,
            batch_size=8,
            eval_batch_size=4,
            num_workers=0,
            feature_dir=tmp_path / "features",
            encode_batch_size=8,
            device=torch.device("cpu"),
            autocast_dtype=None,
            seed=3,
        )

    file = fakes.own_csv(tmp_path / "own")
    datamodule = own()
    datamodule.prepare_data()
    datamodule.setup()
    assert datamodule.corpus.name == "own"
    assert len(next(iter(datamodule.test_dataloader()))) == 3
    file.write_text(file.read_text().replace(",val", ",test"))
    with pytest.raises(DataError, match="the val split has no images"):
        own().prepare_data()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler, again = EpochSampler(10, seed=1, shuffle=True), EpochSampler(10, seed=1, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert list(sampler) == list(again) != first
    assert sorted(first) == list(range(10))
    assert list(EpochSampler(4, seed=1, shuffle=False)) == [0, 1, 2, 3]


def test_ranks_share_all_items_and_evaluation_repeats_none() -> None:
    def shares(num_items: int, shuffle: bool) -> list[list[int]]:
        found = []
        for rank in range(3):
            sampler = EpochSampler(num_items, seed=0, shuffle=shuffle)
            sampler._place = lambda rank=rank: (rank, 3)  # type: ignore[method-assign]
            found.append(list(sampler))
            assert len(found[-1]) == len(sampler)
        return found

    assert sorted(chain(*shares(10, shuffle=False))) == list(range(10))
    training = shares(10, shuffle=True)
    assert [len(share) for share in training] == [4, 4, 4], "ranks must take equally many steps"
    assert set(chain(*training)) == set(range(10))
