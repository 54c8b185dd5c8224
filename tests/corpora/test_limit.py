"""A part of a data set, for a quick trial, is never mistaken for the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from captionlab.batches.captions import TokenizedCorpus
from captionlab.corpora.corpus import SPLITS, CaptionCorpus, CaptionedImage, Split
from captionlab.corpora.datasets import CaptionFolder
from captionlab.corpora.limit import limited
from captionlab.reports.groups import Run
from captionlab.runs.identity import identity
from tests.support import fakes
from tests.support.configs import checked


def corpus(**sizes: int) -> CaptionCorpus:
    def images(split: Split) -> tuple[CaptionedImage, ...]:
        names = [f"{split}{n}" for n in range(sizes.get(split, 0))]
        return tuple(CaptionedImage(name, Path(name), ("a dog",)) for name in names)

    return CaptionCorpus("made", {split: images(split) for split in SPLITS})


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ({"train": 6000, "val": 1000, "test": 1000}, 200, (150, 25, 25)),
        ({"train": 113_287, "val": 5000, "test": 5000}, 200, (160, 20, 20)),  # a tenth each
        ({"train": 90, "val": 5, "test": 5}, 50, (40, 5, 5)),
        ({"test": 40}, 10, (0, 0, 10)),
        ({"train": 3, "val": 2, "test": 95}, 10, (2, 2, 6)),
        ({"train": 80, "val": 10, "test": 10}, 10, (6, 2, 2)),
        ({"train": 30, "val": 5, "test": 5}, 40, (30, 5, 5)),
    ],
)
def test_each_split_keeps_enough_images_to_say_something(
    sizes: dict[str, int], limit: int, expected: tuple[int, ...]
) -> None:
    part = limited(corpus(**sizes), limit)
    assert tuple(len(part.splits[split]) for split in SPLITS) == expected


def test_a_part_says_so_and_the_whole_does_not() -> None:
    whole = corpus(train=60, val=10, test=10)
    part = limited(whole, 20)
    assert part.name == "made-limit-20"
    (note,) = part.notes
    assert note == "20 of 80 images are used (16 of train, 2 of val, 2 of test): data.limit=20"
    assert part.fingerprint != whole.fingerprint
    assert limited(whole, 80) is whole
    assert limited(whole, None) is whole


def test_a_larger_limit_adds_images_and_other_files_move_none() -> None:
    whole = corpus(train=600, val=100, test=100)
    small, large = (limited(whole, limit).references("train").keys() for limit in (50, 200))
    assert small < large
    backwards = {split: tuple(reversed(whole.splits[split])) for split in SPLITS}
    assert limited(replace(whole, splits=backwards), 50).references("train").keys() == small


def test_runs_and_tables_name_the_part(tmp_path: Path) -> None:
    fakes.FAKES["own_csv"].write(tmp_path / "own")
    options = ["data=captions", f"data.root={tmp_path}/own", f"cache_dir={tmp_path}/cache"]
    whole, part = checked(*options), checked(*options, "data.limit=10")
    assert identity(whole) != identity(part)
    assert "limit" not in identity(whole)["data"], "runs from before the option stay the same runs"
    assert Run(tmp_path, whole, None, None).data == "captions"
    assert Run(tmp_path, part, None, None).data == "captions-limit-10"
    dataset = CaptionFolder(tmp_path / "own", limit=10)
    assert len(dataset.read().images) == len(dataset.read_captions().images) == 10
    assert dataset.read().name == "own-limit-10"
    assert dataset.read().fingerprint == dataset.read_captions().fingerprint


def test_a_learning_curve_is_trained_on_fewer_images_and_keeps_all_else() -> None:
    whole = corpus(train=600, val=10, test=10)
    part, larger = (limited(whole, None, number) for number in (50, 200))
    assert len(part.training_images) == 50
    assert set(part.training_images) < set(larger.training_images)
    assert part.images == whole.images, "the stored features are those of all images"
    assert (part.name, part.fingerprint) == (whole.name, whole.fingerprint)
    assert part.notes == ("50 of 600 training images are used: data.train_limit=50",)
    words = TokenizedCorpus.of(part, str.split)
    assert {split: len(images) for split, images in words.splits.items()} == {
        "train": 50,
        "val": 10,
        "test": 10,
    }
    assert len(limited(whole, None, 900).training_images) == 600
    assert len(limited(whole, 31, 7).training_images) == 7


def test_runs_of_a_learning_curve_are_apart_in_one_table(tmp_path: Path) -> None:
    fakes.FAKES["own_csv"].write(tmp_path / "own")
    options = ["data=captions", f"data.root={tmp_path}/own", f"cache_dir={tmp_path}/cache"]
    whole, part = checked(*options), checked(*options, "data.train_limit=10")
    assert identity(whole) != identity(part)
    assert "train_limit" not in identity(whole)["data"]
    assert Run(tmp_path, part, None, None).data == Run(tmp_path, whole, None, None).data
