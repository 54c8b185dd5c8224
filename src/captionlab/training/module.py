"""The one LightningModule: trains a decoder, or encoder and decoder."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from captionlab.batches import Batch, MicroBatch
from captionlab.decoders import Decoder
from captionlab.decoders.conditioning import fix_statistics
from captionlab.encoders import Encoder
from captionlab.errors import ConfigError
from captionlab.images.preprocessing import normalise
from captionlab.metrics import CaptionMetrics
from captionlab.objectives import Mean, Objective, num_targets, total
from captionlab.search import Search
from captionlab.seeding import derive_seed
from captionlab.text import Vocabulary
from captionlab.training.compilation import compile_decoder, compile_errors, pad_for_graph
from captionlab.training.optimizers import OptimizerFactory, parameter_groups
from captionlab.training.random_state import random_state, restore_random_state
from captionlab.training.schedules import Schedule
from captionlab.training.sums import RunningMean, over_ranks, sums_over_ranks
from captionlab.types import CaptionBatch, PixelBatch


class CaptioningModule(pl.LightningModule):
    """Trains a decoder on features of a frozen encoder, or both on pixels.

    Every epoch draws its random numbers from a seed of its own, and a checkpoint inside an epoch
    holds the state of the generators, so that a resumed run gives what it would have given.

    The loss is the mean over the batch of all processes and all accumulated parts.

    Args:
        encoder: what makes features of pixels, prepared; None where batches have features.
        encoder_lr: learning rate of its trained parameters; the decoder's is the optimizer's own.
        decoder: what is trained.
        objective: what it minimises.
        validation_search: writes the captions that validation scores.
        optimizer: makes the optimizer from groups of parameters.
        fused: True for one kernel that steps all parameters, None for torch's own choice.
        schedule: makes the learning rate schedule from the optimizer and the number of steps.
        vocabulary: turns ids into words.
        validation_metrics: scores validation captions, holding their references.
        monitor: the validation score that a plateau schedule watches.
        seed: of everything drawn while training.
        identity: plain values that tell where the checkpoint comes from; saved inside it.
        compiled: whether training calls the decoder as a compiled graph.

    Attributes:
        train_seconds: spent in training epochs, validation included, over all attempts.
    """

    def __init__(
        self,
        *,
        encoder: Encoder | None,
        encoder_lr: float,
        decoder: Decoder,
        objective: Objective,
        validation_search: Search,
        optimizer: OptimizerFactory,
        fused: bool | None,
        schedule: Schedule,
        vocabulary: Vocabulary,
        validation_metrics: CaptionMetrics,
        monitor: str,
        seed: int,
        identity: dict[str, Any],
        compiled: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder_lr = encoder_lr
        self.decoder = decoder
        self.objective = objective
        self.validation_search = validation_search
        self.make_optimizer = optimizer
        self.fused = fused
        self.make_schedule = schedule
        self.vocabulary = vocabulary
        self.validation_metrics = validation_metrics
        self.monitor = monitor
        self.seed = seed
        self.identity = identity
        self.compiled = compiled
        if compiled:
            compile_decoder(decoder)
        self.train_seconds = 0.0
        self._train_loss = RunningMean()  # over images
        self._val_loss = RunningMean()  # over tokens
        self._part_counts: Tensor | None = None  # of the loss's means, over all parts
        self._parts: list[tuple[int, Tensor]] = []  # images, and sums to log, of those done
        self._random_state: list[dict[str, Tensor]] | None = None
        self._in_epoch = False

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trained = [] if self.encoder is None else self.encoder.trained_parameters()
        groups = parameter_groups(self.decoder, trained, self.encoder_lr)
        optimizer = self.make_optimizer(groups, self.fused)
        self._num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.make_schedule(optimizer, self._num_steps)
        by_epoch = isinstance(schedule, ReduceLROnPlateau)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "epoch" if by_epoch else "step",
                "frequency": self._epochs_per_validation if by_epoch else 1,
                "monitor": self.monitor,
            },
        }

    @property
    def _epochs_per_validation(self) -> int:
        return self.trainer.check_val_every_n_epoch or 1

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        # A plateau schedule has had its step: Lightning's turn comes after last.ckpt is saved.
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # As Lightning does it, but for its refusal of a fused optimizer under any autocast: only
        # fp16 scales gradients, and there none is fused.
        Precision.clip_gradients(
            self.trainer.precision_plugin,
            optimizer,
            gradient_clip_val or 0.0,
            GradClipAlgorithmType(gradient_clip_algorithm or "norm"),
        )

    def on_train_start(self) -> None:
        # Not only in on_train_epoch_start, which Lightning leaves out inside an epoch.
        self._epoch_began = time.perf_counter()
        if self._random_state is not None:
            restore_random_state(self._random_state, self.global_rank, self.device)
            self._random_state = None

    def on_train_epoch_start(self) -> None:
        rank_seed = derive_seed(self.seed, "epoch", self.current_epoch, self.global_rank)
        torch.manual_seed(rank_seed)
        self._epoch_began = time.perf_counter()
        self._train_loss.reset()

    @property
    def mean_train_loss(self) -> Tensor:
        """Of the epoch so far, over images."""
        return self._train_loss.compute()

    def training_step(self, batch: Batch | MicroBatch, batch_idx: int) -> Tensor:
        self._in_epoch = True
        if isinstance(batch, MicroBatch):
            if batch.whole is not None:
                self._start_parts(batch.whole)
            batch = batch.part
        progress = self.global_step / self._num_steps
        encoded = self._encode(batch)
        if self.compiled:
            encoded = replace(encoded, tokens=pad_for_graph(encoded.tokens))
        with compile_errors():
            means, logged = self.objective.means(self.decoder, encoded, progress)
        return self._combine(means, logged, len(batch))

    def _start_parts(self, whole: Batch) -> None:
        """Take from a process's whole batch what every part of it needs to know."""
        counts = [float(count) for count in self.objective.counts(whole.tokens)]
        self._part_counts = over_ranks(torch.tensor(counts, device=self.device))
        fix_statistics(self.decoder, None if self.encoder else self._encode(whole).features)

    def _combine(
        self, means: Sequence[Mean], logged: Mapping[str, Mean], num_images: int
    ) -> Tensor:
        """The loss whose gradients, averaged over processes and parts, are the whole batch's."""
        num_shares = self.trainer.world_size * self.trainer.accumulate_grad_batches
        loss = total([mean.value for mean in means])
        value, others = loss.detach(), {name: mean.value for name, mean in logged.items()}
        if num_shares > 1:
            sums = sums_over_ranks([*means, *logged.values()], self.device)
            counts = sums[1, : len(means)] if self._part_counts is None else self._part_counts
            weights = [num_shares * m.count / n for m, n in zip(means, counts, strict=True)]
            loss = total([m.value * w for m, w in zip(means, weights, strict=True)])
            self._parts.append((num_images, sums))
            if len(self._parts) < self.trainer.accumulate_grad_batches:
                return loss
            num_images = sum(number for number, _ in self._parts)
            weighted, counts = torch.stack([sums for _, sums in self._parts]).sum(0)
            self._parts = []
            values = weighted / counts
            value, others = (
                values[: len(means)].sum(),
                dict(zip(logged, values[len(means) :], strict=True)),
            )
        self._train_loss.update(value, num_images)
        self.log("train/loss_step", value, batch_size=num_images)
        self.log_dict(
            {f"train/{name}": other for name, other in others.items()},
            batch_size=num_images,
        )
        return loss

    def validation_step(self, raw: Batch, batch_idx: int) -> dict[str, str]:
        """Update the validation scores; gives the caption of each image id of the batch."""
        batch = self._encode(raw)
        # A graph for it would not pay.
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            loss = self.objective.validate(self.decoder, batch)
        self._val_loss.update(loss, num_targets(batch.tokens))
        hypotheses = self.validation_search(self.decoder, batch.features)
        captions = [self.vocabulary.decode(hypothesis.tokens) for hypothesis in hypotheses]
        self.validation_metrics.update(batch.image_ids, captions)
        return dict(zip(batch.image_ids, captions, strict=True))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:  # some batches before the training: no scores
            self._val_loss.reset()
            self.validation_metrics.reset()
            return
        loss, num_tokens = over_ranks(self._val_loss.sums.to(self.device))
        self._val_loss.reset()
        self.log("val/loss", loss / num_tokens)
        scores = self.validation_metrics.compute()
        self.validation_metrics.reset()
        self.log_dict({f"val/{name}": value for name, value in scores.corpus.items()})

    def on_train_epoch_end(self) -> None:
        # Before the checkpoint callbacks: what they save has this epoch's time and score in it.
        self.train_seconds += time.perf_counter() - self._epoch_began
        self._in_epoch = False
        loss = float(self.mean_train_loss)  # the same in all processes
        self._log_epoch(loss)
        if not math.isfinite(loss):
            epoch = self.current_epoch + 1
            raise ConfigError(
                f"the training diverged: the mean loss of epoch {epoch} is {loss}; "
                "lower optimizer.lr, or set trainer.precision=32-true."
            )
        schedule = self.lr_schedulers()
        validated = (self.current_epoch + 1) % self._epochs_per_validation == 0
        if isinstance(schedule, ReduceLROnPlateau) and validated:
            schedule.step(float(self.trainer.callback_metrics[self.monitor]))

    def _log_epoch(self, loss: float) -> None:
        """Log the epoch's loss; Lightning would hand it to the loggers after the checkpoint.

        A run killed in between would resume in the next epoch, and never log this one.
        """
        self.log("train/loss_epoch", loss, logger=False)
        values = {"train/loss_epoch": loss, "epoch": self.current_epoch}
        for logger in self.loggers:
            logger.log_metrics(values, step=self.global_step - 1)
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        is_last_epoch = self.current_epoch + 1 == self.trainer.max_epochs
        seconds = time.perf_counter() - self._epoch_began if self._in_epoch else 0.0
        checkpoint["captionlab"] = {
            **self.identity,
            "vocabulary": self.vocabulary.to_list(),
            "train_seconds": self.train_seconds + seconds,
            "finished": not self._in_epoch and (self.trainer.should_stop or is_last_epoch),
        }
        if self._in_epoch:
            checkpoint["captionlab"]["train_loss"] = self._train_loss.sums.cpu()
            checkpoint["captionlab"]["random_state"] = random_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["captionlab"]
        self.train_seconds = saved["train_seconds"]
        self._in_epoch = "random_state" in saved
        if self._in_epoch:
            self._train_loss.sums = saved["train_loss"]
            self._random_state = saved["random_state"]

    def _encode(self, batch: Batch) -> CaptionBatch:
        """What the decoder sees, in float32."""
        if isinstance(batch, PixelBatch):
            assert self.encoder is not None
            features = self.encoder(normalise(batch.pixels, self.encoder.preprocessing))
        else:
            features = batch.features
        features = features.to(torch.float32)
        return CaptionBatch(batch.image_ids, features, batch.tokens, batch.mirrored)
