"""A training that is interrupted inside an epoch and resumed is the one that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.multiprocessing import ProcessRaisedException

from captionlab.batches.datamodule import CaptionDataModule
from captionlab.config import build
from captionlab.training.callbacks import best_checkpoint
from captionlab.training.loggers import MetricsCSV
from tests.support.configs import checked
from tests.support.processes import elsewhere

OPTIONS = ["encoder=resnet18", "encoder.image_size=32", "decoder.hidden_dim=16", "search=greedy"]
OPTIONS += ["data.num_train=18", "data.num_val=6", "data.num_test=6", "data.image_size=32"]
OPTIONS += ["data.num_workers=0", "data.batch_size=4", "trainer.max_epochs=2", "callbacks=none"]
OPTIONS += ["trainer.accelerator=cpu", "trainer.precision=32-true", "decoder.dropout=0.3"]
OPTIONS += ["search.max_length=6", "trainer.checkpoint_every_steps=1"]
STEPS_PER_EPOCH = 5


class InterruptedRunError(Exception):
    """Of a training."""


class Interrupts(pl.Callback):
    """Stops a training when a step has begun, which is then lost."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            torch.manual_seed(99)  # who resumes is another process, in another state
            raise InterruptedRunError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


def fit(cache: Path, folder: Path, *overrides: str, until: int = -1) -> dict[str, Any]:
    """Train in a folder, from its last checkpoint on if there is one; gives the weights."""
    config = checked(*OPTIONS, f"cache_dir={cache}", *overrides)
    data = build.build_data(config)
    module = build.build_module(config, data, {})
    last = folder / "checkpoints" / "last.ckpt"
    callbacks = [Interrupts(until), best_checkpoint(last.parent, "val/cider_d")]
    folder.mkdir(exist_ok=True)
    loggers = [MetricsCSV(folder / "metrics.csv")]
    trainer = build.build_trainer(config, "32-true", loggers, callbacks, folder)
    resume = last if last.exists() else None
    datamodule = CaptionDataModule(data.loaders)
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    return {name: value.numpy() for name, value in module.state_dict().items()}


RUNS = {
    "dropout": (),
    "views": ("augmentation=flip", "data.group_by_length=true"),
    "scheduled sampling": ("objective=scheduled_sampling",),
    "self-critical": ("objective=self_critical",),
    "trained encoder": ("encoder.train=last", "data.num_workers=1"),
    "plateau": ("schedule=plateau", "optimizer=sgd"),
    "two processes": ("trainer.devices=2", "+trainer.strategy=ddp_fork"),
    "accumulation": ("+trainer.accumulate_grad_batches=2", "trainer.checkpoint_every_steps=2"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_it_ends_with_the_same_weights_and_curves(kind: str, cache: Path, tmp_path: Path) -> None:
    def train(name: str, until: int = -1) -> dict[str, Any]:
        call = elsewhere if kind == "two processes" else lambda function, *a, **k: function(*a, **k)
        return call(fit, cache, tmp_path / name, *RUNS[kind], until=until)

    whole = train("whole")
    for step in (3, 4, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 3):
        with pytest.raises((InterruptedRunError, ProcessRaisedException)):
            train("resumed", until=step)
    resumed = train("resumed")
    for name, value in whole.items():
        assert (value == resumed[name]).all(), name
    curves = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "resumed")]
    assert curves[0] == curves[1]


def test_a_checkpoint_is_saved_every_so_many_steps_and_minutes(cache: Path, tmp_path: Path) -> None:
    def saved(*overrides: str, until: int) -> int | None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(InterruptedRunError):
            fit(cache, folder, *overrides, until=until)
        path = folder / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)["global_step"] if path.exists() else None

    often, never = "trainer.checkpoint_every_minutes=1.0e-9", "trainer.checkpoint_every_steps=null"
    assert saved("trainer.checkpoint_every_steps=2", until=3) == 2
    assert saved("trainer.checkpoint_every_steps=2", until=4) == 4
    assert saved(never, often, until=3) == 3
    assert saved(never, "trainer.checkpoint_every_minutes=60", until=3) is None
    assert saved(never, "trainer.checkpoint_every_minutes=null", until=7) == STEPS_PER_EPOCH


def test_a_sanity_check_of_some_validation_batches_changes_nothing(
    cache: Path, tmp_path: Path
) -> None:
    options = "data.eval_batch_size=1", "objective=scheduled_sampling"
    plain = fit(cache, tmp_path / "plain", *options)
    checked_first = fit(cache, tmp_path / "sane", *options, "trainer.num_sanity_val_steps=1")
    for name, value in plain.items():
        assert (value == checked_first[name]).all(), name
