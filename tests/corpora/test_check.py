"""What is in a data set, and what of it would stop or falsify a training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from captionlab.corpora.check import CorpusCheck, check_corpus
from captionlab.corpora.corpus import CaptionCorpus, CaptionedImage, Split
from captionlab.corpora.readers import read_corpus
from captionlab.text import PTBTokenizer
from captionlab.types import FeatureShape

SHAPES = {"small": FeatureShape((2, 3), grid_dim=7, pooled_dim=5)}


def look(corpus: CaptionCorpus, photos: bool = False) -> CorpusCheck:
    return check_corpus(corpus, PTBTokenizer(), SHAPES, photos=photos, num_workers=0)


def corpus(train: list[str], test: list[str]) -> CaptionCorpus:
    """One image per split."""

    def image(split: Split, captions: list[str]) -> tuple[CaptionedImage, ...]:
        return (CaptionedImage(split, Path(split), tuple(captions)),)

    splits = {"train": image("train", train), "val": image("val", ["a b"])}
    return CaptionCorpus("made", {**splits, "test": image("test", test)})


def test_a_sound_data_set_is_counted_and_has_no_problem(shapes: CaptionCorpus) -> None:
    check = look(shapes, photos=True)
    assert check.problems == []
    assert check.num_images == {"train": 24, "val": 8, "test": 8}
    assert check.num_captions == {"train": 120, "val": 40, "test": 40}
    assert check.captions_per_image == {5: 40}
    assert sum(check.lengths.values()) == 200
    assert check.feature_bytes == {"small": 40 * (2 * 3 * 7 + 5) * 2}


def test_the_vocabulary_is_of_training_words_and_measured_on_test_words() -> None:
    vocabulary = look(corpus(["red red red blue blue green"], ["red blue green gold"])).vocabulary
    sizes = {v.min_count: v.size for v in vocabulary}
    assert sizes == {1: 4 + 3, 2: 4 + 2, 3: 4 + 1, 5: 4, 10: 4}
    assert {v.min_count: v.test_coverage for v in vocabulary} == {
        1: 0.75,
        2: 0.5,
        3: 0.25,
        5: 0,
        10: 0,
    }


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        (" . ", "no words"),
        ("dog", "one word"),
        ("a dog " * 26, "over 50 words"),
        ("a dog\x07 runs", "control characters"),
        ("a dog\u2028runs", "control characters"),
        ("a zero\u200bwidth space", "control characters"),
        ("<start> a dog <end>", "marks of start, end or unknown words"),
        ("startseq a dog endseq", "marks of start, end or unknown words"),
    ],
)
def test_odd_captions_are_found(caption: str, kind: str) -> None:
    odd = look(corpus(["two words", caption], ["a b"])).odd_captions
    assert odd == {kind: (("train", caption),)}


def test_marks_in_captions_and_a_single_validation_image_are_problems() -> None:
    single, marks = look(corpus(["startseq two dogs endseq"], ["a b"])).problems
    assert single.startswith("the val split has one image, of which CIDEr-D is always 0")
    assert marks.startswith("1 captions hold marks of start, end or unknown words, which scores")


def test_the_same_caption_twice_for_one_image_is_odd_but_not_for_two() -> None:
    odd = look(corpus(["a dog", "a cat", "a dog"], ["a cat"])).odd_captions
    assert odd == {"twice for one image": (("train", "a dog"),)}


def test_bad_and_repeated_photos_are_problems_in_a_line_each(
    tmp_path: Path, shapes_root: Path
) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    photos = root / "images"
    (photos / "dev_00002.jpg").write_bytes(b"")
    shutil.copy(photos / "train_00000.jpg", photos / "test_00005.jpg")
    shutil.copy(photos / "train_00000.jpg", photos / "train_00009.jpg")
    shutil.copy(photos / "train_00001.jpg", photos / "train_00010.jpg")
    check = look(read_corpus(root), photos=True)
    assert [[p.image_id for p in group] for group in check.duplicates] == [
        ["train_00000.jpg", "train_00009.jpg", "test_00005.jpg"],
        ["train_00001.jpg", "train_00010.jpg"],
    ]
    unreadable, across = check.problems
    assert "1 photos cannot be read" in unreadable
    assert "dev_00002.jpg cannot be read: it is empty" in unreadable
    assert "1 photos are in more than one split (1 in train and test)" in across
    assert "\n" not in unreadable + across


def test_photos_are_not_looked_at_unless_asked(shapes: CaptionCorpus) -> None:
    missing = tuple(replace(image, path=Path("/nowhere")) for image in shapes.splits["val"])
    check = look(replace(shapes, splits={**shapes.splits, "val": missing}), photos=False)
    assert check.problems == []
    assert not check.photos_decoded


def test_an_empty_split_is_a_problem(shapes: CaptionCorpus) -> None:
    check = replace(look(shapes), num_images={"train": 24, "val": 0, "test": 8})
    assert check.problems == [
        "the val split has no images, so that nothing can be trained and scored"
    ]
