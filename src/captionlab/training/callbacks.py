"""Checkpoints while training."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint

_STEPS_PER_LOOK = 10  # at the clock, on several devices


class LastCheckpoint(Checkpoint):
    """Saves all that resuming needs, at the end of each epoch and inside epochs.

    Args:
        path: of the file; the one before it is kept as `previous.ckpt`.
        every_minutes: inside epochs; None for never.
        every_steps: inside epochs; None for never.
    """

    def __init__(self, path: Path, every_minutes: float | None, every_steps: int | None) -> None:
        self.path = path
        self.every_seconds = math.inf if every_minutes is None else 60 * every_minutes
        self.every_steps = every_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any
    ) -> None:
        if not _is_between_steps(trainer):
            return
        step = trainer.global_step
        is_due = self.every_steps is not None and step % self.every_steps == 0
        # Processes agree on the time by the clock of the first, which takes a moment.
        if not is_due and (trainer.world_size == 1 or step % _STEPS_PER_LOOK == 0):
            is_late = time.monotonic() - self._saved_at >= self.every_seconds
            is_due = trainer.strategy.broadcast(is_late)
        if is_due:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        previous = {"previous": self.path.with_name("previous.ckpt")}
        trainer.save_checkpoint(self.path, weights_only=False, storage_options=previous)
        self._saved_at = time.monotonic()


def _is_between_steps(trainer: pl.Trainer) -> bool:
    """Whether a training can resume here: no gradient is half summed, no validation follows."""
    done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    is_step = done % trainer.accumulate_grad_batches == 0
    is_last = done >= trainer.num_training_batches
    validates = done % (trainer.val_check_batch or math.inf) == 0
    return is_step and not is_last and not validates


def best_checkpoint(folder: Path, monitor: str) -> Callback:
    """Keeps `best.ckpt`, weights only, by `monitor`."""
    return ModelCheckpoint(
        folder,
        "best",
        monitor,
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
