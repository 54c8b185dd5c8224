"""How far a training is: a bar, and a line per epoch."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from captionlab.batches.datamodule import CaptionDataModule
from captionlab.errors import printable
from captionlab.metrics.registry import find_score
from captionlab.progress import Bar, Display
from captionlab.training.module import CaptioningModule

log = logging.getLogger(__name__)


class EpochReport(Callback):
    """Logs what each epoch gave, and shows meanwhile how far the training is.

    Scores are on the scale of tables. The sample is the first validation image.

    Args:
        monitor: the score by which the best checkpoint is chosen.
        display: gets a bar over all steps of the training, the best score and the sample.
    """

    def __init__(self, monitor: str, display: Display) -> None:
        self.monitor = monitor
        self.display = display
        self._score = find_score(monitor.removeprefix("val/"))
        self._epoch = 0
        self._best = -math.inf
        self._best_epoch = 0
        self._training: Bar | None = None  # in the first process alone
        self._validation: Bar | None = None
        self._sample: tuple[str, str] | None = None  # an image's caption, and a reference

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "best_epoch": self._best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best, self._best_epoch = state_dict["best"], state_dict["best_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        if not trainer.is_global_zero:
            return
        data = _data_of(trainer)
        if data is not None:
            groups = trainer.optimizers[0].param_groups
            rates = [f"{group.get('initial_lr', group['lr']):g}" for group in groups]
            log.info(
                "%d images per step on %s, learning rate %s",
                data.loaders.images_per_step(data.sharing),
                data.sharing,
                rates[0] + (f", of the encoder {rates[1]}" if rates[1:] else ""),
            )
        per_epoch = int(trainer.num_training_batches)
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self._training = self.display.begin(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            per_epoch * (trainer.max_epochs or 1),
            "steps",
            per_epoch * trainer.current_epoch + done,
            in_log=False,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        if self._training is not None:
            self._training.describe(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any
    ) -> None:
        if self._training is not None:
            self._training.advance()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._training is not None:
            total = sum(int(number) for number in trainer.num_val_batches)
            self._validation = self.display.begin("validating", total, "batches", in_log=False)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *rest: Any
    ) -> None:
        if self._validation is None:
            return
        self._validation.advance()
        data = _data_of(trainer)
        if rest[1] == 0 and data is not None:  # the first batch
            image, caption = next(iter(outputs.items()))
            reference = data.loaders.corpus.references("val")[image][0]
            self._sample = printable(caption), printable(reference)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._validation is not None:
            self._validation.end()
            self._validation = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        self._epoch = trainer.current_epoch + 1
        parts = [f"epoch {self._epoch}/{trainer.max_epochs}"]
        if isinstance(pl_module, CaptioningModule):  # which logs it only now
            parts.append(f"loss {float(pl_module.mean_train_loss):.3f}")
        if "val/loss" in metrics:
            parts.append(f"val loss {float(metrics['val/loss']):.3f}")
        if self.monitor in metrics:
            score = float(metrics[self.monitor])
            if score > self._best:
                self._best, self._best_epoch = score, self._epoch
            is_best = self._best_epoch == self._epoch
            best = "best so far" if is_best else f"best {self._points(self._best)}"
            parts.append(f"{self._score.title} {self._points(score)} ({best})")
        if self._training is not None:
            parts.append(f"{time.perf_counter() - self._began:.1f} s")
            self._say("  ".join(parts))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._training is None:
            return
        self._training.end()
        self.display.show([])
        is_early = self._epoch < (trainer.max_epochs or 0)
        log.info(
            "%sbest epoch %d of %d, %s %s",
            "stopped early, " if is_early else "",
            self._best_epoch,
            self._epoch,
            self._score.title,
            self._points(self._best),
        )

    def _say(self, line: str) -> None:
        """Log an epoch, with the sample where there is no display for it."""
        if self._sample is None:
            log.info("%s", line)
            return
        caption, reference = self._sample
        sample = f'sample "{caption}", reference "{reference}"'
        log.info("%s  %s", line, sample, extra={"brief": line})
        best = f"{self._score.title} {self._points(self._best)} (epoch {self._best_epoch})"
        self.display.show(
            [f"best so far  {best}", f"sample       {caption}", f"reference    {reference}"]
        )

    def _points(self, score: float) -> str:
        return f"{self._score.scale * score:.1f}"


def _data_of(trainer: pl.Trainer) -> CaptionDataModule | None:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data if isinstance(data, CaptionDataModule) else None
