"""Captions of any photos, from Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captionlab
from captionlab.captioner import photo_captioner
from captionlab.captioner.load import load_run
from captionlab.captioner.photo_captioner import PhotoCaptioner
from captionlab.errors import ConfigError, DataError, RunError
from tests.captioner.test_captioner import ids_of, place
from tests.support.runs import Place

__all__ = ["place"]  # a fixture


@pytest.fixture(scope="module")
def attends(place: Place) -> PhotoCaptioner:
    return captionlab.load(place.run("attends"))


@pytest.fixture(scope="module")
def photos(place: Place) -> list[Path]:
    return [image.path for image in place.data.corpus.splits["test"]]


def test_a_photo_gets_the_caption_that_it_gets_in_its_data_set(
    place: Place, attends: PhotoCaptioner, photos: list[Path]
) -> None:
    model = load_run(attends.target).captioner
    expected = model.write(place.data.corpus, ids_of(place.data.corpus))
    found = attends(photos, attention=True)
    assert [caption.source for caption in found] == list(map(str, photos))
    for caption, hypothesis in zip(found, expected.values(), strict=True):
        assert caption.text == model.vocabulary.decode(hypothesis.tokens)
        assert caption.text == " ".join(word.text for word in caption.words)
        assert caption.log_probability == pytest.approx(hypothesis.log_probability, abs=1e-3)
        assert caption.truncated is not hypothesis.finished
        assert caption.pixels is not None
        assert caption.pixels.shape == (64, 64, 3)
        for word in caption.words:
            assert word.attention is not None
            assert word.attention.shape == (6, 6)
            assert word.attention.sum() == pytest.approx(1, abs=1e-3)
        of_words = np.prod([word.probability for word in caption.words])
        if caption.truncated:
            assert of_words == pytest.approx(caption.probability, rel=1e-2)
        else:
            assert of_words > caption.probability, "which counts the end, too"


def test_photos_may_come_in_any_form(attends: PhotoCaptioner, photos: list[Path]) -> None:
    path = photos[0]
    image = Image.open(path)
    array = np.asarray(image.convert("RGB"))
    text = attends(path).text
    mixed = attends([str(path), image, array])
    assert [caption.source for caption in mixed] == [str(path), 1, 2]
    assert {caption.text for caption in mixed} == {text}
    assert attends(image).text == attends(array).text == text
    grey = np.asarray(image.convert("L"))
    assert attends(grey).text == attends(Image.fromarray(grey).convert("RGB")).text


def test_a_folder_is_captioned_by_name_with_the_folders_in_it(
    attends: PhotoCaptioner, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(photos[0], tmp_path / "b.JPG")
    shutil.copy(photos[1], tmp_path / "in" / "a.jpg")
    (tmp_path / "notes.txt").write_text("no photo")
    sources = [caption.source for caption in attends(tmp_path)]
    assert sources == [str(tmp_path / "b.JPG"), str(tmp_path / "in" / "a.jpg")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there are no photos in .*empty; looked for \.jpg"):
        attends(tmp_path / "empty")


def test_a_stream_takes_photos_as_it_needs_them(
    attends: PhotoCaptioner, photos: list[Path]
) -> None:
    taken = count()
    endless = (photos[next(taken) % len(photos)] for _ in count())
    first = list(islice(attends.stream(endless), 3))
    assert next(taken) < 100
    assert [caption.text for caption in first] == [attends(path).text for path in photos[:3]]


def test_worker_processes_give_the_same_captions(
    attends: PhotoCaptioner, photos: list[Path]
) -> None:
    alone = [caption.text for caption in attends(photos)]
    assert [caption.text for caption in attends(photos, num_workers=2)] == alone


def test_threads_share_a_captioner(attends: PhotoCaptioner, photos: list[Path]) -> None:
    alone = [attends(photo).text for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda photo: attends(photo).text, photos * 5))
    assert together == alone * 5


def test_the_best_captions_come_first(place: Place, photos: list[Path]) -> None:
    model = captionlab.load(place.run("beam"), ["search.beam_size=4"])
    assert model.max_captions == 4
    for caption in model(photos[:2], n_best=3):
        texts = [alternative.text for alternative in caption.alternatives]
        assert 1 <= len(texts) <= 3
        assert len({*texts}) == len(texts)
        assert texts[0] == caption.text
        assert all(word.attention is None for word in caption.words)


def test_words_cost_nothing_where_nobody_wants_them(
    attends: PhotoCaptioner, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = attends(photos)
    explained = attends(photos[0], words=False, attention=True)
    assert len(explained.words) == len(expected[0].words), "attention is theirs"

    def refuse(*_: object) -> None:
        raise AssertionError("the words of a caption were predicted once more")

    monkeypatch.setattr(photo_captioner, "word_predictions", refuse)
    found = attends(photos, words=False)
    assert [caption.alternatives for caption in found] == [c.alternatives for c in expected]
    assert {caption.words for caption in found} == {()}


def test_a_caption_cut_at_the_longest_length_says_so(place: Place, photos: list[Path]) -> None:
    model = captionlab.load(place.run("cut"), ["search.max_length=1", "search.min_length=1"])
    assert any(caption.truncated for caption in model(photos))
    assert all(len(caption.words) <= 1 for caption in model(photos))


def test_what_a_model_cannot_give_is_refused(
    place: Place, attends: PhotoCaptioner, photos: list[Path]
) -> None:
    merges = captionlab.load(place.run("merges", "conditioning=merge"))
    with pytest.raises(
        ConfigError, match="this model has no attention; use explain=occlusion, or a run"
    ):
        merges(photos[0], attention=True)
    with pytest.raises(ConfigError, match=r"9 captions .* this search gives 1 to 3; override"):
        attends(photos[0], n_best=9)
    with pytest.raises(ConfigError, match="on_error='skip' is unknown"):
        attends(photos[0], on_error="skip")  # type: ignore[call-overload]


def test_a_photo_that_cannot_be_read_stops_or_is_told(
    attends: PhotoCaptioner, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "no.jpg").write_text("words")
    mixed = [photos[0], tmp_path / "no.jpg", photos[1]]
    with pytest.raises(DataError, match=r"no\.jpg cannot be read: it is no image"):
        attends(mixed)
    found = attends(mixed, on_error="return")
    assert [caption.error is None for caption in found] == [True, False, True]
    assert found[1].text == ""
    assert json.loads(json.dumps(found[1].to_json())).keys() == {"source", "error"}
    assert found[2].text == attends(photos[1]).text


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 4, 3), np.float32), r"an array of float32 \(4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"an array of uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4), np.uint8), r"an array of uint8 \(0, 4\)"),
    ],
)
def test_arrays_of_another_kind_are_refused(
    attends: PhotoCaptioner, array: np.ndarray, found: str
) -> None:
    with pytest.raises(DataError, match=f"photo 0 is {found}; give uint8"):
        attends(array)


def test_of_a_folder_of_runs_the_best_is_taken(place: Place, tmp_path: Path) -> None:
    for name, score in (("low", 0.5), ("high", 0.9), ("unscored", None)):
        shutil.copytree(place.run(f"of-folder-{name}"), tmp_path / name)
        result = {"best_validation": {"val/cider_d": score}}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    shutil.copytree(tmp_path / "high", tmp_path / "running")
    (tmp_path / "running" / "status.json").write_text('{"state": "running"}')
    (tmp_path / "running" / "result.json").write_text('{"best_validation": {"val/cider_d": 2}}')
    assert captionlab.load(tmp_path).target == tmp_path / "high"
    (tmp_path / "low" / "result.json").write_text('{"best_validation": {"val/bleu_4": 0.3}}')
    with pytest.raises(RunError, match=r"are not comparable: .* val/cider_d, val/bleu_4"):
        captionlab.load(tmp_path)
    with pytest.raises(RunError, match="is no finished run, and there is none in it"):
        captionlab.load(place.folder / "data")
    with pytest.raises(RunError, match="does not exist"):
        captionlab.load(tmp_path / "nothing")


@pytest.mark.parametrize("train", ["none", "last"])
def test_captioning_needs_neither_hydra_nor_lightning_nor_the_data_set(
    place: Place, photos: list[Path], tmp_path: Path, train: str
) -> None:
    """What the encoder's random weights were fitted to lies in the checkpoint."""
    cache = f"cache_dir={tmp_path}/cache"
    run = place.run(f"alone-{train}", f"encoder.train={train}", f"data.root={tmp_path}/gone", cache)
    expected = captionlab.load(run)(photos[0])
    shutil.rmtree(tmp_path / "gone")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    program = f"""
import sys, captionlab
assert "torch" not in sys.modules
print(captionlab.load({str(run)!r})({str(photos[0])!r}).text)
print([n for n in sys.modules if n.split(".")[0] in ("hydra", "omegaconf", "pytorch_lightning")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    caption, modules = done.stdout.splitlines()
    assert caption == expected.text
    assert modules == "[]"
    assert not any(tmp_path.iterdir())
