"""The comparison as one HTML page: what is in the file. `tests/browser` opens it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captionlab.cli import main
from captionlab.reports import Comparison
from captionlab.reports.page import write_attention
from captionlab.run_files import RunFiles
from tests.support.results import NUM_IMAGES, Results


class Page:
    """What is in a page's file."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.facts: dict[str, Any] = json.loads(self.element("facts"))

    def element(self, name: str) -> str:
        """Content of a script element that holds data."""
        match = re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', self.text, re.S)
        assert match, name
        return match[1]

    def gallery(self) -> dict[str, Any]:
        """Captions of all runs."""
        content = gzip.decompress(base64.b64decode(self.element("captions")))
        gallery: dict[str, Any] = json.loads(content)
        return gallery

    @property
    def photos(self) -> list[str]:
        """Names of the elements that hold photos."""
        return re.findall(r'id="(photo-\d+)"', self.text)


def page_of(*folders: Path, num_photos: int = 1000) -> Page:
    comparison = Comparison.read(folders)
    comparison.write(folders[0].parent / "report", num_photos)
    return Page((folders[0].parent / "report" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def test_nothing_in_the_page_names_another_file_or_host(results: Results) -> None:
    text = page_of(results.run("vgg", "lstm")).text
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", text))
    assert all(address.startswith("#") for address in addresses)
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


def test_equal_captions_of_an_image_are_one_entry_with_their_runs(results: Results) -> None:
    first = results.corpus.splits["test"][0].image_id
    page = page_of(
        results.run("vgg", "lstm", 0, 0.4),
        results.run("vgg", "lstm", 1, 0.4),
        results.run("resnet", "lstm", 0, 0.9, {first: "a blue whale"}),
    )
    gallery = page.gallery()
    assert gallery["runs"] == [[0, "0"], [1, "0"], [1, "1"]]
    (image,) = (image for image in gallery["images"] if image["id"] == first)
    assert [(c["text"] == "a blue whale", c["runs"]) for c in image["captions"]] == [
        (True, [0]),
        (False, [1, 2]),
    ]
    assert len(image["references"]) == 5
    claims = image["captions"][0]["claims"]
    assert claims["number"] == [0, 1], "no object is named"
    assert all(true == number for true, number in image["captions"][1]["claims"].values())


def test_thumbnails_are_small_and_shared_by_all_runs(results: Results) -> None:
    page = page_of(results.run("vgg", "lstm"), results.run("resnet", "lstm"))
    assert len(page.photos) == NUM_IMAGES
    photo = Image.open(io.BytesIO(base64.b64decode(page.element("photo-0"))))
    assert photo.format == "WEBP"
    assert max(photo.size) <= 256


def test_the_number_of_photos_is_an_option(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(results.run("vgg", "lstm"))
    out = results.folder / "out"
    main(["report", run, "--out", str(out), "--photos", "7"])
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    assert len(page.photos) == len(page.gallery()["images"]) == 7
    assert page.facts["data"]["gallery"] == {"shown": 7, "total": NUM_IMAGES, "notes": []}
    assert main(["report", run, "--photos", "-1"]) == 1
    assert "--photos must be 0 or more, found -1" in capsys.readouterr().err


def test_the_best_the_worst_and_those_runs_disagree_on_are_kept(results: Results) -> None:
    images = [image.image_id for image in results.corpus.splits["test"]]
    runs = [results.run("vgg", "lstm"), results.run("resnet", "lstm")]
    for run, scores in zip(runs, ((5.0, 9.0, 0.1), (1.0, 9.0, 0.1)), strict=True):
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        for line in lines:
            line["caption"] = f"{run.name} {line['image_id']}"
        for line, score in zip(lines[4:7], scores, strict=True):
            line["scores"]["cider_d"] = score
        (run / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    gallery = page_of(*runs, num_photos=3).gallery()
    assert [image["id"] for image in gallery["images"]] == images[4:7]


def test_missing_photos_are_counted_and_the_rest_is_shown(results: Results) -> None:
    images = results.corpus.splits["test"]
    images[0].path.unlink()
    images[1].path.write_bytes(b"no photo")
    page = page_of(results.run("vgg", "lstm"))
    assert len(page.photos) == NUM_IMAGES - 2
    (note,) = page.facts["data"]["gallery"]["notes"]
    assert note == f"2 photos are missing or cannot be read, such as {images[0].image_id}."


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"root": "/absent"}, "there is no folder /absent any more"),
        ({"_target_": "captionlab.data.ShapesDataModule"}, "captionlab.data"),
    ],
)
def test_without_the_data_set_there_are_captions_and_the_reason(
    results: Results, data: dict[str, str], reason: str
) -> None:
    page = page_of(results.run("vgg", "lstm", data={**results.data, **data}))
    assert len(page.gallery()["images"]) == NUM_IMAGES
    assert page.photos == []
    (note,) = page.facts["data"]["gallery"]["notes"]
    assert note.startswith("References and photos are missing")
    assert reason in note


def test_other_captions_than_the_runs_saw_are_reported(results: Results) -> None:
    run = results.run("vgg", "lstm")
    (tokens,) = (results.folder / "data").glob("*/text/Flickr8k.token.txt")
    tokens.write_text(tokens.read_text().replace("circle", "ring"))
    page = page_of(run)
    (note,) = page.facts["data"]["gallery"]["notes"]
    assert note.endswith("has other captions or splits than the runs saw.")
    assert len(page.photos) == NUM_IMAGES


def test_attention_is_that_of_the_best_run_that_wrote_the_same_caption(results: Results) -> None:
    first = results.corpus.splits["test"][0].image_id
    best = results.run("resnet", "lstm", 0, 0.9, {first: "two words"})
    runs = [results.run("vgg", "lstm", 0, 0.4, {first: "two words"}), best]
    weights = np.array([[0.5, 0.5], [0.25, 0.75]])
    for run, caption in zip(runs, ("two words", "other words"), strict=True):
        path = RunFiles(run).attention_path
        write_attention(path, {first: caption}, [(first, weights)], (1, 2), 0.875)
    (image,) = (i for i in page_of(*runs).gallery()["images"] if i["id"] == first)
    assert image["captions"][0]["attention"] == {
        "run": 1,
        "rows": 1,
        "columns": 2,
        "seen": 0.875,
        "maps": ["aa", "5f"],
    }


def test_damaged_files_of_a_run_are_named(results: Results) -> None:
    runs = [results.run("vgg", "lstm"), results.run("resnet", "lstm")]
    (runs[0] / "attention.jsonl").write_text("{")
    (runs[1] / "metrics.csv").write_text("epoch,val/cider_d\nx,y\n1")
    data = page_of(*runs).facts["data"]
    (note,) = data["gallery"]["notes"]
    assert "The captions of vgg-lstm-s0 are left out" in note
    assert "attention.jsonl is damaged" in note
    assert [bool(run["lines"]) for run in data["curves"]["runs"]] == [False, True]


def test_drawings_of_another_recipe_are_left_alone(results: Results) -> None:
    run = results.run("vgg", "lstm", data={**results.data, "generator_seed": 5})
    (recipe,) = (results.folder / "data").glob("*/generator.json")
    before = recipe.read_text()
    page = page_of(run)
    assert "does not hold the drawings" in page.facts["data"]["gallery"]["notes"][0]
    assert [path.read_text() for path in (results.folder / "data").glob("*/generator.json")] == [
        before
    ]


def test_photos_of_one_name_in_two_folders_are_both_there(tmp_path: Path) -> None:
    from captionlab.corpora.corpus import CaptionedImage
    from captionlab.reports.page.gallery import _thumbnail

    thumbnails = set()
    for colour in ("red", "blue"):
        path = tmp_path / colour / "photo.png"
        path.parent.mkdir()
        Image.new("RGBA", (900, 300), colour).save(path)
        thumbnails.add(_thumbnail(CaptionedImage(f"{colour}/photo.png", path, ("one",))))
    assert len(thumbnails) == 2
    assert None not in thumbnails


def test_runs_on_different_data_have_pages_of_their_own(results: Results) -> None:
    runs = [
        results.run("vgg", "lstm"),
        results.run("vgg", "gru", data={**results.data, "name": "other"}),
    ]
    out = results.folder / "out"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    for name in ("shapes", "other"):
        page = Page((out / name / "index.html").read_text(encoding="utf-8"))
        assert page.facts["data"]["name"] == name
        assert len(page.gallery()["runs"]) == 1


def test_facts_say_costs_tests_curves_settings_and_how_to_make_it_again(results: Results) -> None:
    folders = [results.run("vgg", d, s, 0.4, lr=0.1) for d in ("lstm", "gru") for s in (0, 1)]
    page = page_of(*folders, results.failed("broken", "DataError: no photo </script>"))
    data = page.facts["data"]
    assert data["ranking"] == "cider_d"
    assert data["different"] == ["decoder.name"]
    assert data["equal"]["lr"] == "0.1"
    assert {n["kind"] for n in data["numbers"]} == {"score", "blind", "cost", "truth"}
    assert [test[:2] for test in data["tests"]] == [[0, 1]]
    assert data["curves"]["columns"][0] == "val/cider_d"
    assert data["curves"]["runs"][0]["lines"]["val/loss"][-1] == [4, 0.75]
    assert page.facts["runs"][0]["command"] == "run.py encoder=vgg decoder=lstm 'note=a b'"
    assert page.facts["runs"][-1]["error"] == "DataError: no photo </script>"
    assert page.facts["versions"] == [["captionlab 0.1.0, torch 2.14", 4]]
    assert "CIDEr-D" in [title for title, _ in page.facts["definitions"]]


def test_a_page_without_any_result_says_why(results: Results) -> None:
    page = page_of(results.failed("broken", "DataError: no photo"))
    assert "data" not in page.facts
    assert page.facts["runs"][0]["error"] == "DataError: no photo"


def test_equal_runs_give_an_equal_page(results: Results) -> None:
    run = results.run("vgg", "lstm")
    assert page_of(run).text == page_of(run).text
