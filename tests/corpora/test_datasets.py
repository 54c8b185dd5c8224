"""Data sets on disk: how they are read, and what names their content."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captionlab.corpora import datasets
from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.datasets import COCO, CaptionDataset, CaptionFolder, Flickr8k, Shapes
from captionlab.errors import DataError
from tests.support import fakes


def small_shapes(root: Path, **options: Any) -> Shapes:
    sizes = {"num_train": 3, "num_val": 2, "num_test": 2, "image_size": 32, "generator_seed": 0}
    return Shapes(root, **sizes | options)


def age(root: Path) -> None:
    """Make files look older than the clock's resolution, as downloaded ones are."""
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_all(dataset: CaptionDataset) -> CaptionCorpus:
        raise AssertionError("the captions were read")

    monkeypatch.setattr(CaptionFolder, "read_all", read_all)


def test_data_sets_are_known_without_torch() -> None:
    code = "import sys, captionlab.corpora.datasets; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shapes_are_generated_when_they_are_read(tmp_path: Path) -> None:
    dataset = small_shapes(tmp_path / "shapes")
    assert not (tmp_path / "shapes").exists()
    corpus = dataset.read()
    assert corpus.name == "shapes"
    assert [len(images) for images in corpus.splits.values()] == [3, 2, 2]


def test_shapes_know_what_is_true_of_captions(tmp_path: Path) -> None:
    dataset = small_shapes(tmp_path / "shapes")
    images = dataset.read().splits["test"]
    captions = {image.image_id: image.captions[0].lower().rstrip(" .") for image in images}
    assert set(dataset.truth(captions).values()) == {1.0}
    nonsense = dict.fromkeys(captions, "a dog")
    assert dataset.truth(nonsense) == {"all": 0, "number": 0}


def test_shapes_are_identified_by_their_options_before_they_are_generated(tmp_path: Path) -> None:
    identity = small_shapes(tmp_path / "a").identity()
    assert small_shapes(tmp_path / "b").identity() == identity
    for other in ({"num_train": 4}, {"image_size": 33}, {"generator_seed": 1}):
        assert small_shapes(tmp_path / "a", **other).identity() != identity
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fake", ["flickr8k", "own_csv", "parquet_list"])
def test_the_same_content_at_another_place_is_the_same(tmp_path: Path, fake: str) -> None:
    fakes.FAKES[fake].write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, other = (CaptionFolder(tmp_path / name, cache_dir=tmp_path / "c") for name in "ab")
    assert one.identity() == other.identity()
    assert one.identity()["corpus"] == one.read().fingerprint


def test_a_copy_with_smaller_photos_is_another(tmp_path: Path) -> None:
    fakes.FAKES["own_csv"].write(tmp_path / "data")
    dataset = CaptionFolder(tmp_path / "data", cache_dir=tmp_path / "cache")
    before = dataset.identity()
    photo = dataset.read().images[0].path
    Image.new("RGB", (8, 8)).save(photo)
    assert dataset.identity()["corpus"] == before["corpus"]
    assert dataset.identity() != before


def test_captions_are_read_once_to_identify_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.karpathy_coco(tmp_path / "data")
    age(tmp_path / "data")
    dataset = COCO(tmp_path / "data", cache_dir=tmp_path / "cache")
    identity = dataset.identity()
    forbid_reading(monkeypatch)
    assert COCO(tmp_path / "data", cache_dir=tmp_path / "cache").identity() == identity
    for other in ({"use_restval": False}, {"dialect": "coco2014"}, {"split_seed": 1}):
        with pytest.raises(AssertionError, match="were read"):
            COCO(tmp_path / "data", cache_dir=tmp_path / "cache", **other).identity()


def test_a_changed_caption_is_never_identified_as_before(tmp_path: Path) -> None:
    file = fakes.own_csv(tmp_path / "data")
    age(tmp_path / "data")
    dataset = CaptionFolder(tmp_path / "data", cache_dir=tmp_path / "cache")
    before = dataset.identity()
    file.write_text(file.read_text().replace("grass", "brass"))
    age(tmp_path / "data")  # size and time are as before
    assert dataset.identity()["corpus"] == dataset.read().fingerprint != before["corpus"]


def test_a_file_written_a_moment_ago_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be written once more within the resolution of its time."""
    monkeypatch.setattr(datasets, "_CLOCK_NANOSECONDS", 10**15)  # a slow machine's moment
    fakes.own_csv(tmp_path / "data")
    dataset = CaptionFolder(tmp_path / "data", cache_dir=tmp_path / "cache")
    dataset.identity()
    forbid_reading(monkeypatch)
    with pytest.raises(AssertionError, match="were read"):
        dataset.identity()


def test_files_that_readers_do_not_read_have_no_part_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.own_csv(tmp_path / "data")
    (tmp_path / "data" / "broken.csv").symlink_to(tmp_path / "nowhere")
    existing = [p for p in (tmp_path / "data").rglob("*") if p.exists()]
    for path in existing:
        os.utime(path, (1e9, 1e9))
    dataset = CaptionFolder(tmp_path / "data", cache_dir=tmp_path / "cache")
    identity = dataset.identity()
    (tmp_path / "data" / "notes.md").write_text("mine")
    (tmp_path / "data" / "images" / "more").mkdir()
    (tmp_path / "data" / "images" / "more" / "deep.csv").write_text("image,caption")
    forbid_reading(monkeypatch)
    assert dataset.identity() == identity


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    fakes.own_csv(tmp_path / "data")
    age(tmp_path / "data")
    (tmp_path / "cache").touch()
    dataset = CaptionFolder(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert dataset.identity()["corpus"] == dataset.read_all().fingerprint


def test_a_missing_folder_is_one_line_whatever_is_asked(tmp_path: Path) -> None:
    dataset = Flickr8k(tmp_path / "nowhere")
    for ask in (dataset.read, dataset.identity):
        with pytest.raises(DataError, match=r"data\.root=.*nowhere is not a folder"):
            ask()


def test_an_unknown_dialect_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dialect=jsonn is unknown; did you mean jsonl\?") as error:
        CaptionFolder(tmp_path, dialect="jsonn")
    assert "\n" not in str(error.value)


def test_bad_photos_are_left_out_where_they_are_to_be_skipped(tmp_path: Path) -> None:
    fakes.own_csv(tmp_path / "data")
    next((tmp_path / "data" / "images").iterdir()).write_bytes(b"no photo")
    whole = CaptionFolder(tmp_path / "data", cache_dir=tmp_path / "cache")
    rest = CaptionFolder(tmp_path / "data", on_bad_image="skip", cache_dir=tmp_path / "cache")
    assert len(whole.read().images) == fakes.NUM_IMAGES
    assert len(rest.read().images) == fakes.NUM_IMAGES - 1
    assert rest.read().name == "data-less-1"
    assert rest.identity() == whole.identity()


def test_names_are_those_of_the_data_set_or_the_folder(tmp_path: Path) -> None:
    fakes.flickr8k_csv(tmp_path / "mine")
    names = [kind(tmp_path / "mine").read().name for kind in (CaptionFolder, Flickr8k)]
    assert names == ["mine", "flickr8k"]
