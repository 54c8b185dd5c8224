"""Captions of any photo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.captioner.load import load_run
from captionlab.captioner.photos import caption_photos
from captionlab.cli import main
from captionlab.cli.caption import _picture_names
from captionlab.errors import ConfigError, DataError
from tests.captioner.test_captioner import ids_of, place
from tests.support.runs import Place

__all__ = ["place"]  # a fixture


def photos(place: Place) -> list[Path]:
    return [image.path for image in place.data.corpus.splits["test"]]


def test_a_photo_gets_the_caption_that_it_gets_in_its_data_set(place: Place) -> None:
    model = place.captioner("attends")
    expected = model.write(place.data.corpus, ids_of(place.data.corpus))
    found = list(caption_photos(model, photos(place), num_captions=1, with_attention=True))
    assert [told.path for told in found] == photos(place)
    for told, hypothesis in zip(found, expected.values(), strict=True):
        assert told.captions[0][0] == model.vocabulary.decode(hypothesis.tokens)
        assert told.captions[0][1] == pytest.approx(hypothesis.log_probability, abs=1e-3)
        assert told.attention is not None
        assert told.attention.shape == (len(told.words), 36)
        torch.testing.assert_close(told.attention.sum(1), torch.ones(len(told.words)))
        assert told.pixels.shape == (3, 64, 64)


def test_the_best_captions_come_first(place: Place) -> None:
    model = load_run(place.run("beam"), ["search.beam_size=4"]).captioner
    for told in caption_photos(model, photos(place)[:2], num_captions=3, with_attention=False):
        assert 1 <= len(told.captions) <= 3
        assert len({text for text, _ in told.captions}) == len(told.captions)
        assert told.attention is None


def test_what_a_run_cannot_do_is_told(place: Place, tmp_path: Path) -> None:
    model = place.captioner("merges", "conditioning=merge")
    with pytest.raises(ConfigError, match="this model does not look at positions; use a run with"):
        next(caption_photos(model, photos(place), num_captions=1, with_attention=True))
    with pytest.raises(ConfigError, match=r"--n-best 9 is more than the search gives \(3\)"):
        next(caption_photos(model, photos(place), num_captions=9, with_attention=False))
    (tmp_path / "no.jpg").write_text("words")
    with pytest.raises(DataError, match="it is no image"):
        next(caption_photos(model, [tmp_path / "no.jpg"], num_captions=1, with_attention=False))


def test_the_command_prints_captions_and_draws_attention(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, photo = place.run("drawn"), photos(place)[0]
    assert main(["caption", str(run), str(photo), "--attention", str(tmp_path / "maps")]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{photo}\t-")
    assert (tmp_path / "maps" / f"{photo.stem}.png").read_bytes().startswith(b"\x89PNG")
    assert main(["caption", str(run), "nowhere.jpg"]) == 1
    assert "there is no photo nowhere.jpg" in capsys.readouterr().err


def test_photos_of_one_name_get_pictures_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/x.jpg", "b/x.jpg", "b/y.jpg")]
    assert list(_picture_names(paths).values()) == ["a-x.png", "b-x.png", "b-y.png"]
    assert _picture_names(paths[1:]) == {paths[1]: "x.png", paths[2]: "y.png"}
    both = [tmp_path / "x.jpg", tmp_path / "x.png"]
    assert list(_picture_names(both).values()) == ["x.jpg.png", "x.png.png"]
