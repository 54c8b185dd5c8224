"""What is said of each epoch."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from captionlab.training.epoch_report import EpochReport


class Shown:
    """A display, or a bar, that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, doing: str, total: int | None, unit: str, done: int = 0, **_: bool) -> Shown:
        self.told.append((doing, total, unit, done))
        return self

    def advance(self, number: int = 1) -> None:
        self.told.append(number)

    def describe(self, doing: str) -> None:
        self.told.append(doing)

    def end(self) -> None:
        self.told.append("end")

    def show(self, lines: list[str]) -> None:
        self.told.append(lines)


def trainer(epoch: int = 0, max_epochs: int = 14, leads: bool = True, **metrics: float) -> Any:
    """As far as the report asks it."""
    loop = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=2)))
    return SimpleNamespace(
        is_global_zero=leads,
        datamodule=None,
        current_epoch=epoch,
        max_epochs=max_epochs,
        num_training_batches=10,
        num_val_batches=[3],
        fit_loop=SimpleNamespace(epoch_loop=loop),
        callback_metrics={f"val/{name}": torch.tensor(v) for name, v in metrics.items()},
    )


def report(display: Any) -> EpochReport:
    return EpochReport("val/cider_d", display)


def train(callback: EpochReport, scores: list[float], max_epochs: int = 14) -> None:
    callback.on_train_start(trainer(max_epochs=max_epochs), None)  # type: ignore[arg-type]
    for epoch, score in enumerate(scores):
        at = trainer(epoch, max_epochs, cider_d=score)
        callback.on_train_epoch_start(at, None)  # type: ignore[arg-type]
        callback.on_train_epoch_end(at, None)  # type: ignore[arg-type]
    callback.on_train_end(trainer(len(scores), max_epochs), None)  # type: ignore[arg-type]


def test_scores_are_on_the_scale_of_tables(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(report(Shown()), [1.234, 2.5, 2.4], max_epochs=14)
    epochs = [message.rpartition("  ")[0] for message in caplog.messages[:-1]]
    assert epochs == [
        "epoch 1/14  CIDEr-D 123.4 (best so far)",
        "epoch 2/14  CIDEr-D 250.0 (best so far)",
        "epoch 3/14  CIDEr-D 240.0 (best 250.0)",
    ]
    assert caplog.messages[-1] == "stopped early, best epoch 2 of 3, CIDEr-D 250.0"


def test_a_training_to_its_end_was_not_stopped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(report(Shown()), [1.0, 2.0], max_epochs=2)
    assert caplog.messages[-1] == "best epoch 2 of 2, CIDEr-D 200.0"


def test_the_first_epoch_of_equal_ones_is_the_best(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(report(Shown()), [0.0, 0.0], max_epochs=2)  # as best.ckpt is kept
    assert caplog.messages[-1] == "best epoch 1 of 2, CIDEr-D 0.0"


def test_a_resumed_training_knows_the_best_of_the_earlier_attempt() -> None:
    first = report(Shown())
    train(first, [3.0])
    second = report(Shown())
    second.load_state_dict(first.state_dict())
    display = Shown()
    second.display = display
    second.on_train_start(trainer(epoch=1), None)  # type: ignore[arg-type]
    assert display.told == [("epoch 2/14", 140, "steps", 12)]
    second._sample = "a dog", "a brown dog"
    second.on_train_epoch_end(trainer(epoch=1, cider_d=2.0), None)  # type: ignore[arg-type]
    assert display.told[-1] == [
        "best so far  CIDEr-D 300.0 (epoch 1)",
        "sample       a dog",
        "reference    a brown dog",
    ]


def test_only_the_first_process_speaks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    display = Shown()
    callback, other = report(display), trainer(leads=False, cider_d=1.0)
    for hook in ("train_start", "train_epoch_start", "validation_start", "validation_end"):
        getattr(callback, f"on_{hook}")(other, None)
    callback.on_train_batch_end(other, None)  # type: ignore[arg-type]
    callback.on_train_epoch_end(other, None)  # type: ignore[arg-type]
    callback.on_train_end(other, None)  # type: ignore[arg-type]
    assert display.told == caplog.messages == []
    assert callback.state_dict() == {"best": 1.0, "best_epoch": 1}, "checkpoints are alike"
