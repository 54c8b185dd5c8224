"""Captions of any system are read, or refused by one line that names the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captionlab.errors import DataError
from captionlab.evaluation.captions_file import read_results

IMAGES = ["10.jpg", "2.jpg", "COCO_3.jpg"]
CAPTIONS = {"10.jpg": ["a dog"], "2.jpg": ["ein Hünd"], "COCO_3.jpg": ["a cat\u2028here"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "captions"


def entries() -> list[dict[str, object]]:
    return [{"image_id": image, "caption": texts[0]} for image, texts in CAPTIONS.items()]


def test_three_forms_say_the_same(file: Path, tmp_path: Path) -> None:
    file.write_text(json.dumps(entries(), indent=1))
    assert read_results(file, IMAGES) == CAPTIONS
    file.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in entries()))
    assert read_results(file, IMAGES) == CAPTIONS
    file.write_bytes(("\ufeff" + "\r\n".join(t[0] for t in CAPTIONS.values())).encode())
    (tmp_path / "images").write_text("\n".join(IMAGES) + "\n")
    assert read_results(file, IMAGES, tmp_path / "images") == CAPTIONS
    file.write_text("a dog\n\n\n\n")
    assert list(read_results(file, IMAGES, tmp_path / "images").values()) == [["a dog"], [""], [""]]


def test_numbers_and_bare_names_find_their_image(file: Path) -> None:
    file.write_text('[{"image_id": 10, "caption": "x"}, {"image_id": "COCO_3", "caption": "y"}]')
    assert read_results(file, IMAGES) == {"10.jpg": ["x"], "COCO_3.jpg": ["y"]}


def test_an_image_may_have_several_captions_together(file: Path) -> None:
    file.write_text('{"image_id": "2", "captions": ["x", "y"], "score": 1}')
    assert read_results(file, IMAGES) == {"2.jpg": ["x", "y"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("a dog\na cat\n", "--images"),
        ('[{"image_id": 10, "caption": "x"', "not valid JSON"),
        ('{"image_id": 10, "caption": "x"}\n{"image', "line 2 is not valid JSON"),
        ('[{"image_id": 10}]', "entry 1: expected an object"),
        ('[{"image_id": 10, "caption": 5}]', "entry 1: expected an object"),
        ('[{"image_id": true, "caption": "x"}]', "entry 1: expected an object"),
        ('[{"image_id": 10, "captions": []}]', "entry 1: expected an object"),
        ("[1, 2]", "entry 1: expected an object"),
        ('[{"image_id": 10, "caption": "\\ud800"}]', "entry 1: a caption holds half of a surrog"),
        ('{"annotations": []}', "line 1: expected an object"),
        ('[{"image_id": 77, "caption": "x"}]', "no image '77'"),
        (
            '[{"image_id": 10, "caption": "x"}, {"image_id": "10.jpg", "caption": "x"}]',
            "entry 2: a second caption",
        ),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_bad_file_is_one_line(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(DataError, match=told) as error:
        read_results(file, IMAGES)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_bad_input_is_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_results(file, IMAGES)
    file.write_bytes(b"[\n\xff]")
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read_results(file, IMAGES)
    file.write_text("a\nb\n")
    (tmp_path / "images").write_text("10.jpg\n")
    with pytest.raises(DataError, match="2 captions, but"):
        read_results(file, IMAGES, tmp_path / "images")
    with pytest.raises(DataError, match="cannot be read"):
        read_results(file, IMAGES, tmp_path / "none")


def test_json_is_no_text_though_a_list_of_images_is_given(file: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.write_text("\n".join(IMAGES) + "\n")
    for text in ("\n".join(map(json.dumps, entries())), json.dumps(entries(), indent=1)):
        file.write_text(text)
        assert read_results(file, IMAGES, images) == CAPTIONS
    file.write_text('{"image_id": 10, "caption"\n')
    with pytest.raises(DataError, match="line 1 is not valid JSON"):
        read_results(file, IMAGES, images)
    file.write_text("[a] dog\n{a cat}\na bird\n")
    assert read_results(file, IMAGES, images)["10.jpg"] == ["[a] dog"]
