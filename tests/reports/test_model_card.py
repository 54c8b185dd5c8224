"""A model card says what is known, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from captionlab.evaluation.result import Result, read_predictions
from captionlab.reports.differences import Differences, statistics_of
from captionlab.reports.inspection import inspection_rows
from captionlab.reports.model_card import model_card
from tests.support.results import Results

USE = ["captionlab caption photo.jpg --run model.safetensors"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Results(tmp_path_factory.mktemp("card")).run("resnet18", "lstm")


def facts(run: Path, **more: Any) -> dict[str, Any]:
    config = yaml.safe_load((run / "config.yaml").read_text())
    return {
        "config": {**config, "search": {"name": "beam", "beam_size": 3, "max_length": 20}},
        "features": {"encoder": "resnet18/a/random-0-64", "corpus": "0123456789abcdef"},
        "vocabulary": ["<pad>", "<start>", "<end>", "<unk>", "a", "square"],
        **more,
    }


def test_the_header_is_what_hubs_read(run: Path) -> None:
    card = model_card(facts(run), Result.read(run / "result.json"), [], USE)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "captionlab"
    assert header["license"] == "unknown"
    assert header["tags"] == ["image-captioning", "captionlab", "resnet18", "lstm"]
    (model,) = header["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"type": "shapes", "name": "shapes", "split": "test"}
    assert {"type": "cider_d", "name": "CIDEr-D", "value": 50.0} in result["metrics"]


def test_scores_stand_with_intervals_the_blind_score_and_people(run: Path) -> None:
    result = Result.read(run / "result.json")
    card = model_card(facts(run), result, [], USE)
    assert "| CIDEr-D | 50.0 | 10.0 | 150.0 |" in card
    assert "| BLEU-4 | 12.5 |  | 40.0 |" in card
    assert "interval" not in card, "there are no captions to resample"
    predictions = read_predictions(run / "predictions.jsonl")
    card = model_card(facts(run), result, predictions, USE)
    one = Differences(["x"], [[statistics_of(predictions)]]).intervals[0]["cider_d"]
    assert (
        f"| CIDEr-D | 50.0 | {100 * one.low:.1f} to {100 * one.high:.1f} | 10.0 | 150.0 |" in card
    )
    assert "30 images of the test split of shapes" in card


def test_limits_are_told(run: Path) -> None:
    card = model_card(facts(run), Result.read(run / "result.json"), [], USE)
    assert "weights are random" in card
    assert "It can write 2 words and no others." in card
    assert "Captions end after 20 words." in card, "how many were cut is not known"


def test_what_is_not_known_is_left_out(run: Path) -> None:
    bare = {"config": {}, "features": {"encoder": "vgg"}, "vocabulary": [*"abcde"]}
    card = model_card(bare, None, [], USE)
    assert "model-index" not in card
    assert "## Scores" not in card
    assert "No scores are known." in card
    assert "## How it was made" not in card
    assert "None" not in card
    assert inspection_rows(bare, None, {})["encoder"] == "vgg"


def test_a_name_cannot_break_the_page(run: Path) -> None:
    evil = facts(run, versions={"torch": "\x1b[31m2|0"})
    evil["config"] = {**evil["config"], "encoder": {"name": "a|b\x1b[2J"}}
    for text in (
        model_card(evil, None, [], USE),
        *inspection_rows(evil, None, {}).values(),
    ):
        assert "\x1b" not in text
