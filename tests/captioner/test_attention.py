"""Where a model looks while it writes given captions."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from captionlab.captioner.attention import caption_attention
from captionlab.captioner.load import load_run
from captionlab.captioner.photo_captioner import load
from captionlab.cli import main
from tests.captioner.test_captioner import place
from tests.support.results import Results
from tests.support.runs import Place

__all__ = ["place"]  # a fixture


def test_attention_to_written_captions_is_that_of_captioning_the_photo(place: Place) -> None:
    run = place.run("looks")
    images = place.data.corpus.splits["test"]
    photos = load(run)([image.path for image in images], attention=True)
    captions = {image.image_id: photo.text for image, photo in zip(images, photos, strict=True)}
    maps = dict(caption_attention(load_run(run).captioner, place.data.corpus, captions))
    for image, photo in zip(images, photos, strict=True):
        expected = [torch.tensor(word.attention).flatten() for word in photo.words]
        # Stored features have half the digits.
        ours = maps[image.image_id].float()
        torch.testing.assert_close(ours, torch.stack(expected), atol=1e-2, rtol=0)


def test_the_report_records_attention_of_runs_that_attend(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up = Results(place.folder / "made_up")
    images = [image.image_id for image in place.data.corpus.splits["test"]]
    for name, *overrides in (("reports",), ("reports_merge", "conditioning=merge")):
        run = place.run(name, *overrides)
        finished = made_up.run(name, "lstm")
        for file in ("config.yaml", "manifest.json", "result.json"):
            shutil.copy(finished / file, run / file)
        rows = [
            {"image_id": i, "caption": "a red circle", "scores": {"cider_d": 1}, "statistics": {}}
            for i in images
        ]
        (run / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["report", str(run), "--attention"]) == 0
    assert not (run / "attention.jsonl").exists()
    lines = (place.folder / "reports" / "attention.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_id"] for line in lines] == images
    assert {len(json.loads(line)["maps"]) for line in lines} == {3}
