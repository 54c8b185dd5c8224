"""Slips in a data set of one's own: none is passed over, and each says how it is mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from captionlab.corpora.check import check_corpus
from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers import read_corpus
from captionlab.errors import DataError
from captionlab.text import PTBTokenizer
from tests.support import fakes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty photos in `images/`, and captions.csv."""
    fakes.FAKES["own_csv"].write(tmp_path)
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_two_photos_of_one_name_are_refused_and_copies_are_not(root: Path) -> None:
    first = sorted((root / "images").iterdir())[0]
    (root / "more").mkdir()
    copy = root / "more" / first.name
    copy.write_bytes(first.read_bytes())
    before = read_corpus(root)
    copy.write_bytes(first.read_bytes() + b"another")
    with pytest.raises(DataError, match=r"two different files, .*/images/.* and .*/more/.*; leave"):
        read_corpus(root)
    assert any(image.path == first for image in before.images)
    read_corpus(root, needs_photos=False)  # captions are scored all the same


def test_a_photo_outside_of_the_root_is_refused(root: Path) -> None:
    name = sorted(file.name for file in (root / "images").iterdir())[0]
    for outside in (f"../{root.name}/images/{name}", f"{root}/images/{name}"):
        (root / "captions.csv").write_text(f"image,caption\n{outside},a dog\n")
        with pytest.raises(DataError, match=r"lies outside of .*; name photos relative to it"):
            read_corpus(root)


def test_the_case_of_a_name_in_a_folder_is_mended_too(root: Path) -> None:
    names = sorted(file.name for file in (root / "images").iterdir())
    for name in names:
        edit(root / "captions.csv", name, f"images/{name}")
        (root / "images" / name).rename(root / "images" / name.replace(".jpg", ".JPG"))
    with pytest.raises(DataError, match=r"20 of 20 are\); name it as images/.*\.JPG, or"):
        read_corpus(root)


def test_a_missing_photo_of_coco_is_called_by_its_file(tmp_path: Path) -> None:
    fakes.coco(tmp_path, 2017)
    (tmp_path / "train2017" / "000000000009.jpg").unlink()
    with pytest.raises(DataError, match=r"photo 000000000009\.jpg is missing \(1 of 20 are\)"):
        read_corpus(tmp_path)


def test_two_columns_of_captions_are_refused(root: Path) -> None:
    edit(root / "captions.csv", "image,caption,split", "image,caption,caption")
    with pytest.raises(DataError, match=r"line 1: 2 columns hold the same \(caption, caption\); k"):
        read_corpus(root)


def test_a_quote_that_is_never_closed_is_named(root: Path) -> None:
    with (root / "captions.csv").open("a") as file:
        file.write('x.jpg,"' + "a dog runs\n" * 20_000)
    with pytest.raises(DataError, match="over 131,072 characters; a double quote is open before"):
        read_corpus(root)


def test_captions_of_punctuation_alone_are_a_problem(shapes: CaptionCorpus) -> None:
    dumb = tuple(replace(image, captions=(".", "!?")) for image in shapes.splits["test"])
    corpus = replace(shapes, splits={**shapes.splits, "test": dumb})
    check = check_corpus(corpus, PTBTokenizer(), {}, photos=False, num_workers=0)
    assert [p for p in check.problems if p.startswith("8 of 8 images of the test split have no")]
    assert check.wordless == {"train": 0, "val": 0, "test": 8}


def write_lists(root: Path, val: str | None) -> list[str]:
    """The first eight photos to train, four to validate where `val` names a list, four to test."""
    captions = root / "captions.csv"  # without its column `split`
    lines = captions.read_text().splitlines()
    captions.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    names = [path.name for path in sorted((root / "images").iterdir())]
    for name, part in (("train", names[:8]), (val, names[8:12]), ("test", names[12:16])):
        if name is not None:
            (root / f"{name}.txt").write_text("\n".join(part))
    return names


@pytest.mark.parametrize("val", ["val", "dev", "valid", "validation"])
def test_lists_of_images_are_the_splits(root: Path, val: str) -> None:
    names = write_lists(root, val)
    splits = read_corpus(root).splits
    assert [image.path.name for image in splits["val"]] == names[8:12]
    assert [image.path.name for image in splits["test"]] == names[12:16]


def test_a_list_that_is_missing_is_named_and_no_splits_are_drawn(root: Path) -> None:
    write_lists(root, val=None)
    with pytest.raises(
        DataError, match=r"split file val\.txt is missing beside .*train\.txt; give"
    ):
        read_corpus(root)


def test_names_of_photos_in_lists_may_have_blanks(root: Path) -> None:
    names = write_lists(root, "val")
    odd = "WhatsApp Image 1.jpg"
    (root / "images" / names[12]).rename(root / "images" / odd)
    for file in (root / "captions.csv", root / "test.txt"):
        edit(file, names[12], odd)
    assert read_corpus(root).splits["test"][0].path.name == odd
