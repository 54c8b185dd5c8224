"""`captionlab data`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from captionlab.cli import main


def test_a_sound_data_set_is_described_and_drawn(
    tmp_path: Path, shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(shapes_root), "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "No problem was found; all photos were decoded." in output
    assert "Encoded images" not in output
    check = json.loads((tmp_path / "out" / "check.json").read_text())
    assert check["num_captions"] == {"train": 120, "val": 40, "test": 40}
    assert check["problems"] == []
    text = (tmp_path / "out" / "check.md").read_text()
    for name in ("lengths.png", "vocabulary.png"):
        assert f"({name})" in text
        assert Image.open(tmp_path / "out" / name).width > 800
    assert not (tmp_path / "out" / "duplicates.png").exists()


def test_problems_are_reported_and_set_the_exit_status(
    tmp_path: Path, shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    shutil.copy(root / "images" / "train_00000.jpg", root / "images" / "test_00005.jpg")
    (root / "images" / "train_00003.jpg").write_text("no [red]photo")
    assert main(["data", "check", str(root), "--out", str(tmp_path / "out")]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "problem: 1 photos cannot be read" in output
    assert "problem: 1 photos are in more than one split" in output
    assert "begins with b'no [red]photo'" in output
    text = (tmp_path / "out" / "check.md").read_text()
    assert text.count("**Problem:**") == 2
    assert Image.open(tmp_path / "out" / "duplicates.png").width > 300
    assert main(["data", "check", str(root), "--no-photos"]) == 0
    assert "the photos were not looked at" in capsys.readouterr().out


def test_the_disk_that_encoded_images_take_is_said_on_request(
    shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "check", str(shapes_root), "--no-photos", "--encoders"]
    assert main([*command, "vgg", "resnet18"]) == 0
    output = capsys.readouterr().out
    assert "vgg " in output
    assert "resnet18 " in output
    assert main([*command, "vg"]) == 1
    assert "encoder vg is unknown; known: convnext_tiny" in capsys.readouterr().err


def test_a_folder_without_data_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_downloads_are_reported_and_mistakes_are_one_line(
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
    for name, hint in (("flickr8k", "request form"), ("cifar", "known: coco2014")):
        assert main(["data", "download", name]) == 1
        error = capsys.readouterr().err
        assert hint in error
        assert error.count("\n") == 1
