"""The one LightningModule: trains a decoder, or encoder and decoder."""

from __future__ import annotations

import time
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

from captionlab.decoders import Decoder
from captionlab.encoders import Encoder
from captionlab.images.preprocessing import normalise
from captionlab.metrics import CaptionMetrics
from captionlab.objectives import Objective
from captionlab.search import Search
from captionlab.seeding import derive_seed
from captionlab.text import Vocabulary
from captionlab.training.compilation import compile_decoder, compile_errors, pad_for_graph
from captionlab.training.optimizers import OptimizerFactory, parameter_groups
from captionlab.training.schedules import Schedule
from captionlab.types import CaptionBatch, PixelBatch


class CaptioningModule(pl.LightningModule):
    """Trains a decoder on features of a frozen encoder, or both on pixels.

    Every epoch draws its random numbers from a seed of its own, so that a run resumed at an epoch
    goes on as if it had never stopped.

    Args:
        encoder: what makes features of pixels, prepared; None where batches have features.
        encoder_lr: learning rate of its trained parameters; the decoder's is the optimizer's own.
        decoder: what is trained.
        objective: what it minimises.
        validation_search: writes the captions that validation scores.
        optimizer: makes the optimizer from groups of parameters.
        fused: whether one kernel steps all parameters.
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
        fused: bool,
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

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trained = [] if self.encoder is None else self.encoder.trained_parameters()
        groups = parameter_groups(self.decoder, trained, self.encoder_lr)
        optimizer = self.make_optimizer(groups, self.fused)
        self._num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.make_schedule(optimizer, self._num_steps)
        interval = "epoch" if isinstance(schedule, ReduceLROnPlateau) else "step"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": interval,
                "monitor": self.monitor,
            },
        }

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

    def on_train_epoch_start(self) -> None:
        rank_seed = derive_seed(self.seed, "epoch", self.current_epoch, self.global_rank)
        torch.manual_seed(rank_seed)
        self._epoch_began = time.perf_counter()

    def training_step(self, batch: CaptionBatch | PixelBatch, batch_idx: int) -> Tensor:
        progress = self.global_step / self._num_steps
        encoded = self._encode(batch)
        if self.compiled:
            encoded = replace(encoded, tokens=pad_for_graph(encoded.tokens))
        with compile_errors():
            loss, extra = self.objective(self.decoder, encoded, progress)
        self.log(
            "train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch)
        )
        self.log_dict(
            {f"train/{name}": value for name, value in extra.items()}, batch_size=len(batch)
        )
        return loss

    def validation_step(self, raw: CaptionBatch | PixelBatch, batch_idx: int) -> None:
        batch = self._encode(raw)
        # A graph for it would not pay.
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            loss = self.objective.validate(self.decoder, batch)
        self.log("val/loss", loss, batch_size=len(batch), sync_dist=True)
        captions = self.validation_search(self.decoder, batch.features)
        self.validation_metrics.update(
            batch.image_ids, [self.vocabulary.decode(caption.tokens) for caption in captions]
        )

    def on_validation_epoch_end(self) -> None:
        scores = self.validation_metrics.compute()
        self.validation_metrics.reset()
        self.log_dict({f"val/{name}": value for name, value in scores.corpus.items()})

    def on_train_epoch_end(self) -> None:
        # Before the checkpoint callbacks: what they save has this epoch's time and score in it.
        self.train_seconds += time.perf_counter() - self._epoch_began
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(float(self.trainer.callback_metrics[self.monitor]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["captionlab"] = {
            **self.identity,
            "vocabulary": self.vocabulary.to_list(),
            "train_seconds": self.train_seconds,
            "finished": self.trainer.should_stop
            or self.current_epoch + 1 == self.trainer.max_epochs,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_seconds = checkpoint["captionlab"]["train_seconds"]

    def _encode(self, batch: CaptionBatch | PixelBatch) -> CaptionBatch:
        """What the decoder sees, in float32."""
        if isinstance(batch, PixelBatch):
            assert self.encoder is not None
            features = self.encoder(normalise(batch.pixels, self.encoder.preprocessing))
        else:
            features = batch.features
        features = features.to(torch.float32)
        return CaptionBatch(batch.image_ids, features, batch.tokens, batch.mirrored)
