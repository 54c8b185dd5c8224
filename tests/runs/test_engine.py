"""Where and how one run computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer

from captionlab.captioner.load import load_run, read_checkpoint
from captionlab.config import build
from captionlab.devices import find_device
from captionlab.errors import ConfigError
from captionlab.evaluation.result import read_predictions
from captionlab.runs import engine
from captionlab.runs.engine import execute
from captionlab.runs.folder import RunFolder
from captionlab.training.module import CaptioningModule
from tests.support.configs import checked
from tests.support.runs import OPTIONS, SMALL


class ReachedError(Exception):
    """Where a test has seen enough of a run."""


@pytest.mark.parametrize(
    ("devices", "expected"),
    [("auto", 0), (2, 0), ("2", 0), (-1, 0), ([2], 2), ([3, 1], 3), ("1,2", 1), ("2,", 2)],
)
def test_the_first_device_is_the_first_that_is_listed(
    devices: int | str | list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _four_gpus(monkeypatch)
    assert find_device("auto", devices) == torch.device("cuda", expected)
    assert find_device("cpu", devices) == torch.device("cpu")


def test_a_listed_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _four_gpus(monkeypatch)
    with pytest.raises(ConfigError, match=r"trainer.devices=\[4\]: this machine has no GPU 4"):
        find_device("gpu", [4])


def _four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_a_process_encodes_and_decodes_on_the_device_of_its_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = checked(*OPTIONS, *SMALL, f"cache_dir={tmp_path}/data", "trainer.precision=auto")
    make_trainer, make_data = build.build_trainer, build.build_data

    def second_process(*args: Any) -> Any:
        trainer = make_trainer(*args)
        trainer.strategy._root_device = torch.device("meta")
        return trainer

    def data(config: dict[str, Any], device: torch.device) -> None:
        assert device == torch.device("meta")
        assert config["trainer"]["precision"] != "auto", "one for all processes"
        raise ReachedError

    monkeypatch.setattr(build, "build_trainer", second_process)
    monkeypatch.setattr(build, "build_data", data)
    folder = RunFolder(tmp_path / "run")
    with folder.lock(), pytest.raises(ReachedError):
        execute(config, folder)

    make_data(config)  # encoded, so that nothing has to compute there
    on_meta = make_data(config, torch.device("meta"))
    assert on_meta.source.device == torch.device("meta")


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        ("bf16-mixed", "bf16-mixed", "bf16-mixed"),
        ("bf16-mixed", "16-mixed", "bf16-mixed, then 16-mixed"),
        ("32-true, then bf16-mixed", "bf16-mixed", "32-true, then bf16-mixed"),
    ],
)
def test_a_change_of_the_number_format_is_told(
    tmp_path: Path, earlier: str, now: str, expected: str
) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"machine": {"precision": earlier}}))
    assert engine.number_formats(folder, now, "a processor") == expected


def test_the_manifest_says_in_which_format_the_features_were_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on disk are taken whatever the run computes in."""

    def train(*args: Any) -> None:
        raise ReachedError

    monkeypatch.setattr(engine, "_train", train)
    for i, (options, expected) in enumerate(
        [
            (["trainer.precision=bf16-mixed"], "torch.bfloat16"),
            (["trainer.precision=32-true"], "torch.bfloat16"),
            (["trainer.precision=32-true", "data.generator_seed=3"], "torch.float32"),
            (["encoder.train=last"], None),
        ]
    ):
        config = checked(*OPTIONS, *SMALL, f"cache_dir={tmp_path}/data", *options)
        folder = RunFolder(tmp_path / f"run{i}")
        with folder.lock(), pytest.raises(ReachedError):
            execute(config, folder)
        assert folder.manifest["encode_dtype"] == expected, options


def test_the_best_epoch_is_tested_and_a_training_that_stopped_early_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its test has to be done by a later attempt."""
    scores = (0.3, 0.5, 0.4, 0.2)  # of the epochs
    log_dict = CaptioningModule.log_dict

    def log(self: CaptioningModule, values: dict[str, Any], **others: Any) -> None:
        if "val/cider_d" in values:
            values = {**values, "val/cider_d": scores[self.current_epoch]}
        log_dict(self, values, **others)

    def fail(*args: Any) -> None:
        raise ReachedError

    monkeypatch.setattr(CaptioningModule, "log_dict", log)
    options = ["trainer.max_epochs=8", "callbacks.early_stopping.patience=2"]
    options += ["trainer.accelerator=cpu", "trainer.precision=32-true"]
    config = checked(*OPTIONS, *SMALL, f"cache_dir={tmp_path}/data", *options)
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch, folder.lock():
        patch.setattr(engine, "_score", fail)
        with pytest.raises(ReachedError):
            execute(config, folder)
    last, best = map(read_checkpoint, (folder.last_checkpoint, folder.best_checkpoint))
    assert (last["epoch"], best["epoch"]) == (3, 1)
    with folder.lock():
        monkeypatch.setattr(Trainer, "fit", fail)
        result = execute(config, folder)
    assert result is not None
    assert result.training is not None
    assert (result.training.epochs, result.training.best_epoch) == (4, 2)
    assert result.training.best_validation == {"val/cider_d": pytest.approx(0.5)}

    run = load_run(folder.best_checkpoint)
    test = [image.image_id for image in run.corpus.splits["test"]]
    written = run.captioner.write(run.corpus, test)
    decode = run.captioner.vocabulary.decode
    of_best = {image: decode(hypothesis.tokens) for image, hypothesis in written.items()}
    predictions = read_predictions(folder.predictions_path)
    assert {p.image_id: p.caption for p in predictions} == of_best
    names = [name for name in best["state_dict"] if name.endswith("weight")]
    assert not any(torch.equal(best["state_dict"][n], last["state_dict"][n]) for n in names)


def test_the_peak_of_memory_is_in_bytes() -> None:
    code = (
        "from captionlab.runs.process import peak_memory_bytes; before = peak_memory_bytes(); "
        "kept = bytearray(b'x') * 600_000_000; print(before, peak_memory_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert max(before, 600e6) < after < before + 650e6
