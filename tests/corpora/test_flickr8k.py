"""The reader of the original release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from captionlab.corpora.corpus import SPLITS
from captionlab.corpora.readers import read_corpus
from captionlab.errors import DataError

TOKENS = "text/Flickr8k.token.txt"
TEST = "text/Flickr_8k.testImages.txt"


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes_root, tmp_path / "release"))


def test_images_captions_and_splits_are_read(root: Path) -> None:
    corpus = read_corpus(root)
    assert [len(corpus.splits[split]) for split in SPLITS] == [24, 8, 8]
    assert all(len(image.captions) == 5 and image.path.is_file() for image in corpus.images)
    assert corpus.notes == ()


def test_the_fingerprint_knows_content_and_not_place(root: Path, shapes_root: Path) -> None:
    before = read_corpus(shapes_root).fingerprint
    assert read_corpus(root).fingerprint == before
    (root / TOKENS).write_text((root / TOKENS).read_text().replace(" a ", " the "))
    assert read_corpus(root).fingerprint != before


def test_the_folders_of_the_zip_files_are_found(root: Path) -> None:
    (root / "images").rename(root / "Flicker8k_Dataset")
    (root / "text").rename(root / "Flickr8k_text")
    assert len(read_corpus(root).images) == 40


def test_a_caption_without_photo_is_left_out_with_a_note(root: Path) -> None:
    with (root / TOKENS).open("a") as file:
        file.write("2258277193_586949ec62.jpg.1#0\tpeople waiting\n")
    corpus = read_corpus(root)
    assert len(corpus.images) == 40
    assert "2258277193_586949ec62.jpg.1" in corpus.notes[0]


def test_crlf_and_a_byte_order_mark_are_read(root: Path) -> None:
    for name in (TOKENS, TEST):
        text = (root / name).read_bytes().replace(b"\n", b"\r\n")
        (root / name).write_bytes(b"\xef\xbb\xbf" + text)
    assert len(read_corpus(root).splits["test"]) == 8


def _rewrite(path: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: (root / path).write_text(change((root / path).read_text())) and None


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no root": (shutil.rmtree, r"data\.root=.*is not a folder"),
    "no token file": (
        lambda root: (root / TOKENS).unlink(),
        r"no captions were found.*Flickr8k\.token\.txt",
    ),
    "no list": (lambda root: (root / TEST).unlink(), r"testImages\.txt is missing"),
    "no photos": (lambda root: shutil.rmtree(root / "images"), r"missing \(40 of 40"),
    "a photo missing": (
        lambda root: (root / "images/test_00003.jpg").unlink(),
        r"line 176: photo test_00003\.jpg is missing",
    ),
    "commas for tabs": (_rewrite(TOKENS, lambda s: s.replace("\t", ",")), "line 1: expected"),
    "an empty caption": (_rewrite(TOKENS, lambda s: "x.jpg#0\t \n" + s), "line 1: .*is empty"),
    "no captions": (_rewrite(TOKENS, lambda s: ""), "is empty"),
    "half a line": (_rewrite(TOKENS, lambda s: s + "train_0"), "line 201: expected"),
    "an image in two splits": (
        _rewrite(TEST, lambda s: s + "train_00000.jpg\n"),
        r"train_00000\.jpg comes twice \(test and train split\)",
    ),
    "an unknown image": (
        _rewrite(TEST, lambda s: s + "who.jpg\n"),
        "line 9: 'who.jpg' has no captions",
    ),
    "an empty list": (_rewrite(TEST, lambda s: ""), "testImages.txt is empty"),
    "latin-1": (
        lambda root: (root / TOKENS).write_bytes(b"a.jpg#0\tok\nb.jpg#0\tcaf\xe9\n"),
        "line 2: not UTF-8",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_release_is_one_clear_line(root: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        read_corpus(root)
    assert "\n" not in str(error.value)
