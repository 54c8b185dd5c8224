"""A corpus without the images whose photos cannot be read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers import read_corpus
from captionlab.corpora.usable import without_bad_photos
from captionlab.errors import DataError
from captionlab.images import photos


def _damaged(shapes_root: Path, folder: Path) -> CaptionCorpus:
    root = Path(shutil.copytree(shapes_root, folder))
    for name in ("train_00003.jpg", "test_00001.jpg"):
        (root / "images" / name).write_bytes(b"no photo")
    return read_corpus(root, name="shapes")


def test_skipping_leaves_a_counted_and_named_set(
    tmp_path: Path, shapes_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = _damaged(shapes_root, tmp_path / "data")
    kept = without_bad_photos(corpus, tmp_path / "features", num_workers=0)
    assert kept.name == "shapes-less-2"
    assert {s: len(kept.splits[s]) for s in kept.splits} == {"train": 23, "val": 8, "test": 7}
    assert kept.fingerprint != corpus.fingerprint
    assert "2 images were left out (1 of train, 0 of val, 1 of test)" in kept.notes[0]
    assert any("test_00001.jpg cannot be read" in note for note in kept.notes)

    monkeypatch.setattr(photos, "examine_photos", None)  # the list of bad ones is kept
    assert without_bad_photos(corpus, tmp_path / "features", num_workers=0) == kept


def test_a_mended_photo_comes_back(tmp_path: Path, shapes_root: Path) -> None:
    corpus = _damaged(shapes_root, tmp_path / "data")
    without_bad_photos(corpus, tmp_path / "features", num_workers=0)
    for name in ("train_00003.jpg", "test_00001.jpg"):
        shutil.copy(shapes_root / "images" / name, tmp_path / "data" / "images" / name)
    assert without_bad_photos(corpus, tmp_path / "features", num_workers=0) is corpus


def test_a_split_without_a_readable_photo_is_an_error(
    tmp_path: Path, shapes: CaptionCorpus
) -> None:
    gone = tuple(replace(image, path=tmp_path / "gone") for image in shapes.splits["val"])
    corpus = replace(shapes, splits={**shapes.splits, "val": gone})
    with pytest.raises(DataError, match="the val split has no images"):
        without_bad_photos(corpus, tmp_path / "features", num_workers=0).require("val")
