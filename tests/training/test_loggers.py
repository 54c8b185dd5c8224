"""Loggers: what they hold is read back from their files; nothing is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captionlab.errors import ConfigError
from captionlab.training import wandb_logger
from captionlab.training.loggers import (
    LoggedPhoto,
    Outcome,
    OutcomeLogger,
    TensorBoardRunLogger,
)
from captionlab.training.wandb_logger import WandbRunLogger, ending_wandb
from tests.support.configs import checked
from tests.support.wandb_files import attempts

ROOT = Path(__file__).parents[2]
pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No account and no file of the machine's own is used."""
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    wandb_logger._login_problem.cache_clear()
    yield
    wandb_logger._login_problem.cache_clear()


def outcome(folder: Path, attends: bool = True) -> Outcome:
    picture = Image.new("RGB", (8, 6), "red")
    for name in ("samples.png", "best.ckpt", "predictions.jsonl"):
        picture.save(folder / name, "PNG")
    shown = Image.new("RGB", (20, 10), "blue") if attends else None
    photos = [
        LoggedPhoto(f"{i}.jpg", picture, ["a dog", "a red dog"], f"dog {i}", 0.5 + i, shown)
        for i in range(2)
    ]
    return Outcome(
        values={"test/cider_d": 0.7, "cost/seconds_train": 3.0, "best/epoch": 1, "last/epoch": 2},
        score_title="CIDEr-D",
        photos=photos,
        samples=folder / "samples.png",
        checkpoint=folder / "best.ckpt",
        predictions=folder / "predictions.jsonl",
        step=7,
    )


def make(folder: Path, **options: Any) -> WandbRunLogger:
    folder.mkdir(parents=True, exist_ok=True)
    return WandbRunLogger(folder, "lstm-s0", "captionlab", mode="offline", **options)


def test_a_wandb_run_has_group_curves_scores_and_a_table_of_photos(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "sweep" / "lstm-s0"
    with ending_wandb():
        logger = make(folder, group="sweep", tags=["lstm", "x" * 99], job_type="train")
        assert isinstance(logger, OutcomeLogger)
        logger.log_hyperparams({"decoder": {"hidden_dim": 8}})
        logger.log_metrics({"val/cider_d": 0.5, "lr-AdamW": 1e-3, "epoch": 0}, step=3)
        logger.log_metrics({"val/cider_d": 0.6, "epoch": 1}, step=6)
        logger.log_outcome(outcome(folder))
    (attempt,) = attempts(folder)
    assert attempt.run.run_group == "sweep"
    assert list(attempt.run.tags) == ["lstm", "x" * 64]
    assert attempt.run.job_type == "train"
    assert attempt.run.display_name == "lstm-s0"
    assert attempt.config["decoder"] == {"hidden_dim": 8}
    assert attempt.column("val/cider_d") == [0.5, 0.6]
    assert attempt.column("lr-AdamW") == [1e-3]
    assert attempt.summary["test/cider_d"] == 0.7
    assert attempt.summary["cost/seconds_train"] == 3.0
    assert (attempt.summary["best/epoch"], attempt.summary["last/epoch"]) == (1, 2)
    assert attempt.exit_code == 0
    assert not attempt.is_preempting
    (table,) = attempt.files.glob("media/table/test/*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"][1:] == ["image_id", "references", "caption", "CIDEr-D", "attention"]
    assert [row[1:5] for row in content["data"]] == [
        ["0.jpg", "a dog\na red dog", "dog 0", 0.5],
        ["1.jpg", "a dog\na red dog", "dog 1", 1.5],
    ]
    assert list(attempt.files.glob("media/images/test/samples*.png"))
    assert attempt.artifacts == ["run_table"]


def test_checkpoint_and_predictions_are_artifacts_where_asked_for(tmp_path: Path) -> None:
    with ending_wandb():
        logger = make(tmp_path / "run", artifacts=True)
        logger.log_outcome(outcome(tmp_path / "run", attends=False))
    (attempt,) = attempts(tmp_path / "run")
    assert sorted(attempt.artifacts) == ["model", "predictions", "run_table"]
    (table,) = attempt.files.glob("media/table/test/*.table.json")
    assert "attention" not in json.loads(table.read_text())["columns"]


def test_a_run_folder_is_one_wandb_run_and_another_folder_another(tmp_path: Path) -> None:
    for name in ("a", "a", "b"):
        with ending_wandb():
            make(tmp_path / name).log_metrics({"x": 1.0}, step=1)
    first, second = attempts(tmp_path / "a")
    (other,) = attempts(tmp_path / "b")
    assert first.run.run_id == second.run.run_id != other.run.run_id
    assert second.run.resume, "`wandb sync` puts both into one"


@pytest.mark.parametrize(
    ("error", "exit_code", "is_preempting"), [(SystemExit(143), 143, True), (OSError(), 1, False)]
)
def test_a_stopped_run_is_preempted_and_a_failed_one_failed(
    tmp_path: Path, error: BaseException, exit_code: int, is_preempting: bool
) -> None:
    make(tmp_path / "run")
    with pytest.raises(type(error)), ending_wandb():
        raise error
    (attempt,) = attempts(tmp_path / "run")
    assert attempt.exit_code == exit_code
    assert attempt.is_preempting == is_preempting


def test_what_a_killed_process_logged_is_kept(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from pathlib import Path;"
        "from captionlab.training.wandb_logger import WandbRunLogger;"
        "folder = Path(sys.argv[1]);"
        "logger = WandbRunLogger(folder, 'lstm-s0', 'captionlab', mode='offline');"
        "[logger.log_metrics({'x': float(i)}, step=i) for i in range(4)];"
        # Longer than records are kept in memory.
        "time.sleep(4);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=120)
    (attempt,) = attempts(tmp_path)
    assert attempt.column("x")[:3] == [0, 1, 2], "wandb may hold back the newest row"
    assert attempt.exit_code is None


def test_without_a_login_an_online_run_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = r"logger\.mode=online needs a W&B account: no login was found; run `wandb login`"
    with pytest.raises(ConfigError, match=message):
        checked("logger=wandb")
    checked("logger=wandb", "logger.mode=offline")
    monkeypatch.setenv("WANDB_MODE", "offline")
    checked("logger=wandb")
    with pytest.raises(ConfigError, match=r"logger\.mode=onlin is unknown; use online, offline"):
        checked("logger=wandb", "logger.mode=onlin")


def test_tensorboard_has_photos_with_captions_and_hparams_with_scores(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardRunLogger(tmp_path, "lstm-s0")
    assert isinstance(logger, OutcomeLogger)
    logger.log_hyperparams({"decoder": {"hidden_dim": 8}, "seed": 0})
    logger.log_outcome(outcome(tmp_path))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) == {"photos/0.jpg", "photos/1.jpg", "test/samples"}
    (picture,) = events.Images("photos/0.jpg")
    assert (picture.width, picture.height, picture.step) == (20, 10, 7), "where the model looked"
    (text,) = events.Tensors("photos/1.jpg/text_summary")
    (written,) = text.tensor_proto.string_val
    assert written.decode() == "**dog 1** (CIDEr-D 1.50)\n\na dog\n\na red dog"
    (score,) = events.Scalars("final/test/cider_d")
    assert score.value == pytest.approx(0.7)
    plugin = json.dumps(str(events.summary_metadata["_hparams_/session_start_info"].plugin_data))
    assert "decoder/hidden_dim" in plugin
