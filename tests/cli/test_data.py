"""`captionlab data` and `captionlab features`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from captionlab.cli import main
from captionlab.corpora.corpus import CaptionCorpus
from tests.features.test_store import MeanColour, build


def test_a_sound_data_set_is_told_and_drawn(
    tmp_path: Path, shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(shapes_root), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "No problem was found; all photos were decoded." in told
    assert "resnet50" in told
    check = json.loads((tmp_path / "out" / "check.json").read_text())
    assert check["num_captions"] == {"train": 120, "val": 40, "test": 40}
    assert check["problems"] == []
    text = (tmp_path / "out" / "check.md").read_text()
    for name in ("lengths.png", "vocabulary.png"):
        assert f"({name})" in text
        assert Image.open(tmp_path / "out" / name).width > 800
    assert not (tmp_path / "out" / "duplicates.png").exists()


def test_problems_are_told_and_set_the_exit_status(
    tmp_path: Path, shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    shutil.copy(root / "images" / "train_00000.jpg", root / "images" / "test_00005.jpg")
    (root / "images" / "train_00003.jpg").write_text("no [red]photo")
    assert main(["data", "check", str(root), "--out", str(tmp_path / "out")]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "problem: 1 photos cannot be read" in told
    assert "problem: 1 photos are in more than one split" in told
    assert "begins with b'no [red]photo'" in told
    text = (tmp_path / "out" / "check.md").read_text()
    assert text.count("**Problem:**") == 2
    assert Image.open(tmp_path / "out" / "duplicates.png").width > 300
    assert main(["data", "check", str(root), "--no-photos"]) == 0
    assert "the photos were not looked at" in capsys.readouterr().out


def test_a_folder_without_data_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_features_are_listed_verified_and_removed(
    tmp_path: Path, shapes: CaptionCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["--cache-dir", str(tmp_path)]
    assert main(["features", "list", *cache]) == 0
    assert "no encoded images" in capsys.readouterr().out
    store = build(tmp_path / "features", shapes, MeanColour())
    name = store.folder.name
    assert main(["features", "list", *cache]) == 0
    told = capsys.readouterr().out
    assert name in told
    assert "mean/1" in told
    assert "complete" in told

    assert main(["features", "verify", *cache]) == 0
    assert capsys.readouterr().out == f"{name}: whole\n"
    np.load(store.folder / "pooled.npy", mmap_mode="r+")[17] += 1
    assert main(["features", "verify", *cache]) == 1
    assert f"{name}: pooled.npy is damaged (images 0 to 39" in capsys.readouterr().out

    with FileLock(tmp_path / "features" / f".{name}.lock"):
        assert main(["features", "remove", name, *cache]) == 1
    assert "being encoded by another process" in capsys.readouterr().err
    assert main(["features", "remove", name, *cache]) == 0
    assert main(["features", "remove", name, *cache]) == 1
    assert "there are: none" in capsys.readouterr().err


def test_downloads_are_told_and_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from captionlab.corpora import download

    asked = []
    monkeypatch.setattr(download, "download", lambda files, to: asked.append((files, to)) or ["x"])
    assert main(["data", "download", "coco2017", "--to", str(tmp_path)]) == 0
    assert [file.name for file in asked[0][0]] == [
        "annotations_trainval2017.zip",
        "train2017.zip",
        "val2017.zip",
    ]
    assert asked[0][1] == tmp_path
    assert "licence: annotations CC BY 4.0" in capsys.readouterr().out
    for name, told in (("flickr8k", "request form"), ("cifar", "known: coco2014")):
        assert main(["data", "download", name]) == 1
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
