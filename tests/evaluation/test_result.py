"""Results survive a file; a damaged or older file is one line that names file and field."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captionlab.errors import RunError
from captionlab.evaluation.result import (
    Prediction,
    Result,
    Training,
    read_predictions,
    write_predictions,
)
from captionlab.files import write_json

RESULT = Result(
    scores={"cider_d": 0.1 + 0.2},
    missing={"meteor": "no Java was found"},
    blind={"cider_d": 0.1},
    human={},
    language={"most_common": 1.0},
    truth={"all": 0.5},
    warnings=["the captions collapsed"],
    num_images=12,
)
TRAINING = Training(
    parameters={"encoder": 11, "encoder_trained": 0, "decoder": 7},
    seconds={"encode": 1.5, "train": 2.5, "test": 0.5},
    epochs=3,
    best_epoch=2,
    best_validation={"val/cider_d": None},
    peak_memory_bytes=2**31,
)
PREDICTIONS = [
    Prediction("a", "ein Hünd\u2028dort", {"bleu_1": 1 / 3}, {"bleu": [1.0, 2.0]}, -1.25, True),
    Prediction("b", "", {"bleu_1": 0.0}, {"bleu": [0.0, 2.0]}),
]


@pytest.mark.parametrize("result", [RESULT, replace(RESULT, training=TRAINING)])
def test_a_result_survives_a_file(tmp_path: Path, result: Result) -> None:
    path = tmp_path / "result.json"
    write_json(path, result.to_json())
    assert Result.read(path) == result


def test_the_numbers_of_a_training_lie_beside_the_scores() -> None:
    value = replace(RESULT, training=TRAINING).to_json()
    assert list(value) == [
        *("scores", "missing", "blind", "human", "language", "truth", "warnings", "num_images"),
        *("parameters", "seconds", "epochs", "best_epoch", "best_validation", "peak_memory_bytes"),
    ]


def test_predictions_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, PREDICTIONS)
    assert read_predictions(path) == PREDICTIONS
    assert "Hünd" in path.read_text(encoding="utf-8")
    first, second = (list(json.loads(line)) for line in path.read_text("utf-8").strip().split("\n"))
    assert first == [*second, "log_probability", "finished"]
    assert second == ["image_id", "caption", "scores", "statistics"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human": None}, r"result\.json: human must be dict\[str, float\], found None"),
        (
            {"scores": {"cider_d": "1"}},
            r"scores must be dict\[str, float\], found {'cider_d': '1'}",
        ),
        ({"num_images": True}, r"result\.json: num_images must be int, found True"),
        ({"peak_memory_bytes": ...}, r"result\.json has no field 'peak_memory_bytes': it is damag"),
        ({"truth": ...}, r"result\.json has no field 'truth'"),
    ],
)
def test_a_field_that_is_missing_or_of_another_kind_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    value = replace(RESULT, training=TRAINING).to_json() | change
    write_json(tmp_path / "result.json", {name: v for name, v in value.items() if v is not ...})
    with pytest.raises(RunError, match=message) as caught:
        Result.read(tmp_path / "result.json")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(RunError, match=r"result\.json cannot be read \(No such file"):
        Result.read(path)
    for content, message in ((b"{", "no valid JSON"), (b"[]", "a JSON object"), (b"\xff", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(RunError, match=rf"result\.json is damaged: .*{message}"):
            Result.read(path)


def test_the_line_of_a_damaged_prediction_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, PREDICTIONS)
    path.write_text(path.read_text().replace('"caption": ""', '"text": ""'))
    with pytest.raises(RunError, match=r"predictions\.jsonl, line 2 has no field 'caption'"):
        read_predictions(path)


def test_reading_a_result_brings_no_torch() -> None:
    code = "import captionlab.evaluation.result, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
