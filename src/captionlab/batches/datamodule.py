"""What Lightning asks of a data set."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from captionlab.batches.loaders import Batch, Loaders
from captionlab.errors import DataError


class CaptionDataModule(pl.LightningDataModule):
    """The loaders of a corpus, as Lightning's Trainer takes them.

    Args:
        loaders: of any corpus: Flickr8k, Flickr30k, COCO, drawings or one's own.
    """

    def __init__(self, loaders: Loaders) -> None:
        super().__init__()
        self.loaders = loaders

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loaders.train()

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loaders.evaluation("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loaders.evaluation("test")

    def transfer_batch_to_device(
        self, batch: Batch | str, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Raises `DataError` for a photo that a worker could not read."""
        if isinstance(batch, str):
            raise DataError(batch)
        return batch.to(device, non_blocking=True)
