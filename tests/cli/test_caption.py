"""`captionlab caption`."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

import captionlab
from captionlab.captioner import photo_input
from captionlab.cli import main
from captionlab.cli.caption import _picture_names
from tests.captioner.test_captioner import place
from tests.support.runs import Place

__all__ = ["place"]  # a fixture


@pytest.fixture(scope="module")
def model(place: Place) -> str:
    return str(place.run("model"))


@pytest.fixture
def photos(place: Place, tmp_path: Path) -> Path:
    """A folder of two photos, one of them in a folder."""
    images = place.data.corpus.splits["test"]
    (tmp_path / "photos" / "in").mkdir(parents=True)
    shutil.copy(images[0].path, tmp_path / "photos" / "a.jpg")
    shutil.copy(images[1].path, tmp_path / "photos" / "in" / "b.jpg")
    return tmp_path / "photos"


_GARBAGE = b"<html>\r\n\r\n"
_BEGINNINGS = {
    "/mute.jpg": b"",
    "/headers.jpg": b"HTTP/1.1 200 OK\r\nX: ",
    "/slow.jpg": b"HTTP/1.1 200 OK\r\n\r\n",
    "/garbage.jpg": _GARBAGE,
}


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path in _BEGINNINGS:
            self._go_on_for_ever(_BEGINNINGS[self.path])
            return
        if self.path == "/missing.jpg":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        photo = self.server.photo  # type: ignore[attr-defined]
        contents = {"/a.jpg": photo, "/words.jpg": b"words", "/large.jpg": bytes(2**20)}
        self.wfile.write(contents[self.path])

    def _go_on_for_ever(self, beginning: bytes) -> None:
        with suppress(ConnectionError):
            self.wfile.write(beginning)
            while beginning != _GARBAGE and not self.server.ended.wait(0.1):  # type: ignore[attr-defined]
                self.wfile.write(b"x" * bool(beginning))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(photos: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        server.photo = (photos / "a.jpg").read_bytes()  # type: ignore[attr-defined]
        server.ended = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_lines_tell_path_probability_and_caption(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(photos), str(photos / "a.jpg"), "--run", model]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(photos / "a.jpg"), str(photos / "in" / "b.jpg")]
    captions = captionlab.load(model)(photos)
    for (_, number, text), caption in zip(lines, captions, strict=True):
        assert float(number) == pytest.approx(caption.log_probability, abs=0.01)
        assert text.removesuffix(" [cut]") == caption.text
        assert text.endswith(" [cut]") == caption.truncated


def test_formats_agree(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(photos), "--run", model, "--n-best", "2"]
    for name in ("x.jsonl", "x.csv", "x.html"):
        assert main([*command, "--out", str(tmp_path / "out" / name)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out/x.jsonl").read_text().splitlines()]
    assert all(" ".join(word["text"] for word in row["words"]) == row["caption"] for row in rows)
    with (tmp_path / "out/x.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    ranked = [
        (row["source"], str(rank), caption["text"])
        for row in rows
        for rank, caption in enumerate(row["alternatives"], start=1)
    ]
    assert [(row["source"], row["rank"], row["caption"]) for row in table] == ranked
    page = (tmp_path / "out/x.html").read_text()
    assert page.count("<article") == page.count("data:image/webp") == 2
    assert all(text in page for *_, text in ranked)
    capsys.readouterr()
    assert main([*command, "--format", "jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


def test_bad_photos_are_listed_at_the_end_and_the_rest_captioned(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "0.jpg").write_text("words")
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:-200])
    Image.new("L", (60, 1)).save(photos / "long.png")
    command = ["caption", str(photos), str(photos / "gone.jpg"), "--run", model]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    errors = err.splitlines()
    assert len(errors) == 4
    for error, part in zip(
        errors, ("it is no image", "truncated", "one side may be", "No such file"), strict=True
    ):
        assert error.startswith("error: photo ")
        assert part in error
    assert main([*command, "--out", str(tmp_path / "x.html")]) == 1
    assert (tmp_path / "x.html").read_text().count("cannot be read</div>") == 4


def test_a_photo_of_too_many_pixels_is_refused(
    model: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert main(["caption", str(photos / "a.jpg"), "--run", model]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert "exceeds limit of 200 pixels" in error


def test_addresses_are_fetched_within_limits(
    model: str,
    photos: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(photo_input, "_LARGEST_DOWNLOAD", 2**19)
    names = ("a", "missing", "words", "large")
    what = [*(f"{server}/{name}.jpg" for name in names), "http://127.0.0.1:1/x.jpg", "http://"]
    assert main(["caption", *what, "--run", model]) == 1
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert line.startswith(f"{server}/a.jpg\t-")
    parts = (
        "answers 404",
        "it is no image",
        "more than 0 MB",
        "cannot be downloaded",
        "cannot be downloaded",
    )
    errors = err.splitlines()
    assert len(errors) == len(parts), "one line each"
    assert all(part in error for error, part in zip(errors, parts, strict=True))


def test_a_server_that_never_finishes_holds_nothing_up(
    model: str, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photo_input, "_SECONDS_TO_ANSWER", 2)
    monkeypatch.setattr(photo_input, "_SECONDS_TO_DOWNLOAD", 3)
    names = ("mute", "headers", "slow", "garbage", "a")
    assert main(["caption", *(f"{server}/{name}.jpg" for name in names), "--run", model]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [f"{server}/a.jpg"]
    slow = "takes longer than 3 seconds; download it and name the file."
    parts = ("the server sent nothing for 2 seconds.", slow, slow, "cannot be downloaded: <html>.")
    errors = err.splitlines()
    assert len(errors) == len(parts), "one line each"
    for error, name, part in zip(errors, names, parts, strict=False):
        assert error.startswith(f"error: photo {server}/{name}.jpg ")
        assert error.endswith(part)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (["empty"], "there are no photos in empty; looked for .jpg"),
        (["*.jpg"], "no file matches *.jpg; check"),
    ],
)
def test_nothing_to_caption_is_an_error(
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["caption", *what, "--run", model]) == 1
    assert message in capsys.readouterr().err


def test_patterns_are_matched(model: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", f"{photos}/**/*.jpg", "--run", model]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_old_order_of_arguments_is_answered_with_the_new_one(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", model, str(photos / "a.jpg")]) == 1
    assert f"captionlab caption {photos}/a.jpg --run {model}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("conditioning", "method"), [("attention", None), ("merge", None), ("merge", "gradients")]
)
def test_every_model_can_be_explained(
    place: Place,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    conditioning: str,
    method: str | None,
) -> None:
    run = place.run(f"explained-{conditioning}-{method}", f"conditioning={conditioning}")
    command = ["caption", str(photos), "--run", str(run), "--explain", str(tmp_path / "maps")]
    assert main(command + ([] if method is None else ["--method", method])) == 0
    pictures = sorted((tmp_path / "maps").iterdir())
    assert [picture.name for picture in pictures] == ["a.png", "b.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_attention_is_refused_where_there_is_none(
    place: Place, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place.run("looks-nowhere", "conditioning=merge")
    command = ["caption", str(photos), "--run", str(run), "--explain", str(tmp_path)]
    assert main([*command, "--method", "attention"]) == 1
    assert "this model has no attention; use explain=occlusion" in capsys.readouterr().err


def test_photos_of_one_name_get_pictures_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/x.jpg", "b/x.jpg", "b/y.jpg")]
    assert list(_picture_names(paths).values()) == ["a-x.png", "b-x.png", "b-y.png"]
    assert _picture_names(paths[1:]) == {paths[1]: "x.png", paths[2]: "y.png"}
    both = [tmp_path / "x.jpg", tmp_path / "x.png"]
    assert list(_picture_names(both).values()) == ["x.jpg.png", "x.png.png"]


def test_names_cannot_play_tricks(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[31m<script>\n\t.jpg"
    shutil.move(photos / "a.jpg", photos / name)
    assert main(["caption", str(photos), "--run", model]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out
    assert all(line.count("\t") == 2 for line in out.splitlines())
    for kind in ("csv", "html", "jsonl"):
        assert main(["caption", str(photos), "--run", model, "--out", f"{tmp_path}/x.{kind}"]) == 0
        assert "\x1b" not in (tmp_path / f"x.{kind}").read_text()
    assert "<script>" not in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("suffix", ["txt", "jpg"])
def test_an_unknown_format_is_refused(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = tmp_path / f"x.{suffix}"
    assert main(["caption", str(photos), "--run", model, "--out", str(out)]) == 1
    assert "use .jsonl, .csv or .html" in capsys.readouterr().err
    assert not out.exists()


class _Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["pickle", "other", "text"])
def test_a_file_of_another_program_is_refused_and_nothing_in_it_executed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    file = tmp_path / "model.ckpt"
    if kind == "text":
        file.write_text("words")
    else:
        torch.save(_Trap(tmp_path / "trapped") if kind == "pickle" else {"state_dict": {}}, file)
    assert main(["caption", str(photos / "a.jpg"), "--run", str(file)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert "is no checkpoint of captionlab" in error
    assert not (tmp_path / "trapped").exists()


def test_missing_encoder_weights_are_one_line(
    place: Place, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import get_model

    weights = tmp_path / "weights.pth"
    torch.save(get_model("resnet18").state_dict(), weights)
    run = place.run("lost-weights", f"encoder.weights={weights}")
    weights.unlink()
    assert main(["caption", str(photos / "a.jpg"), "--run", str(run)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert "weights.pth' is no file" in error
