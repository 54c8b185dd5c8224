"""Progress lines and checkpoints."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

log = logging.getLogger(__name__)


class EpochReport(Callback):
    """Logs one line per epoch.

    Args:
        monitor: the score by which the best checkpoint is chosen.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        names = ["train/loss_epoch", "val/loss", self.monitor]
        values = "  ".join(f"{name} {metrics[name]:.3f}" for name in names if name in metrics)
        if trainer.is_global_zero:
            seconds = time.perf_counter() - self._began
            epochs = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            log.info("%s  %s  %.1f s", epochs, values, seconds)


def checkpoint_callbacks(folder: Path, monitor: str) -> list[Callback]:
    """`best.ckpt`, weights only, by `monitor`; then `last.ckpt`, all that resuming needs."""
    common: dict[str, Any] = {
        "dirpath": folder,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    return [
        ModelCheckpoint(
            filename="best", monitor=monitor, mode="max", save_weights_only=True, **common
        ),
        ModelCheckpoint(filename="last", monitor=None, **common),
    ]
