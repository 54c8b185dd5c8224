"""What Lightning asks of a data set."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from captionlab.batches.loaders import Batch, Loaders, MicroBatch, TrainingLoader
from captionlab.batches.sampler import Sharing
from captionlab.errors import DataError


class CaptionDataModule(pl.LightningDataModule):
    """The loaders of a corpus, as Lightning's Trainer takes them.

    Its state is how many steps of the epoch are done. Lightning restores it before it asks for the
    number of steps of the training; the state of a loader would be lost there (pytorch-lightning
    #20550).

    Args:
        loaders: of any corpus: Flickr8k, Flickr30k, COCO, drawings or one's own.
    """

    allow_zero_length_dataloader_with_multiple_devices = True  # few images to validate on

    def __init__(self, loaders: Loaders) -> None:
        super().__init__()
        self.loaders = loaders
        self._resumed = (-1, 0)

    @property
    def sharing(self) -> Sharing:
        """Of each step's images over the Trainer's processes."""
        return sharing_of(self._trainer)

    def train_dataloader(self) -> TrainingLoader:
        loader = self.loaders.train(self.sharing)
        loader.steps.resume(*self._resumed)
        return loader

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loaders.evaluation("val", self.sharing)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loaders.evaluation("test", self.sharing)

    def state_dict(self) -> dict[str, Any]:
        num_done = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {
            "epoch": self._trainer.current_epoch,
            "num_steps": num_done // self.sharing.num_parts,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = (state_dict["epoch"], state_dict["num_steps"])

    def transfer_batch_to_device(
        self, batch: Batch | MicroBatch | str, device: torch.device, dataloader_idx: int
    ) -> Batch | MicroBatch:
        """Raises `DataError` for a photo that a worker could not read."""
        if isinstance(batch, str):
            raise DataError(batch)
        return batch.to(device, non_blocking=True)

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None
        return self.trainer


def sharing_of(trainer: pl.Trainer) -> Sharing:
    """How a Trainer's processes share the images of a step."""
    return Sharing(trainer.world_size, trainer.accumulate_grad_batches, trainer.global_rank)
