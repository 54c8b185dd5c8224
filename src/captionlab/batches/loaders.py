"""Batches of a corpus, split by split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from captionlab.batches.captions import Item
from captionlab.batches.collate import ItemsWithPhotos, caption_batch, pixel_batch
from captionlab.batches.sampler import (
    BATCHES_PER_POOL,
    EpochSampler,
    Sharing,
    StepSampler,
    shares,
)
from captionlab.corpora import CaptionCorpus, Split
from captionlab.features.source import EncoderFeatures, StoredFeatures
from captionlab.images.augmentation import View
from captionlab.images.pixels import Photos
from captionlab.options import Count
from captionlab.types import CaptionBatch, ImageFeatures, PixelBatch

Batch = CaptionBatch | PixelBatch
_ALONE = Sharing()


@dataclass(frozen=True)
class MicroBatch:
    """A part of a process's batch, whose gradient is added to those of the other parts.

    Attributes:
        part: of the images.
        whole: all parts together; None after the first part.
    """

    part: Batch
    whole: Batch | None

    def to(self, device: torch.device, non_blocking: bool = False) -> MicroBatch:
        whole = None if self.whole is None else self.whole.to(device, non_blocking)
        return MicroBatch(self.part.to(device, non_blocking), whole)


class TrainingLoader(DataLoader[Batch]):
    """Batches of one process, in parts where gradients are accumulated.

    Args:
        sampler: of the items.
        items: with which to make batches.
        options: of torch's DataLoader.
    """

    def __init__(self, items: Sequence[Item], sampler: StepSampler, **options: Any) -> None:
        super().__init__(items, batch_sampler=sampler, **options)  # type: ignore[arg-type]
        self.steps = sampler

    # A generator: the order is asked for when the first batch is, after the epoch is set.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        num_parts = self.steps.sharing.num_parts
        for batch in super().__iter__():
            if num_parts == 1 or isinstance(batch, str):
                yield batch
                continue
            for number, rows in enumerate(shares(len(batch), num_parts)):
                yield MicroBatch(_rows(batch, rows), None if number else batch)

    def __len__(self) -> int:
        return len(self.steps) * self.steps.sharing.num_parts


class Loaders:
    """Makes the loader of each split: features with captions, or pixels where they are trained.

    Args:
        corpus: its images and splits.
        items: from `encode_captions`.
        source: of the images' features, prepared.
        views: of training photos beside the plain one, of which each epoch draws one.
        seed: of the order of training images.
        batch_size: images per training step, with all their captions, over all devices and
            accumulated batches.
        eval_batch_size: images per validation and test batch.
        group_by_length: batch training images whose longest captions are about as long.
        batch_size_per_device: whether every device, and every accumulated batch, has `batch_size`
            images, so that more of them make a larger step.
    """

    def __init__(
        self,
        corpus: CaptionCorpus,
        items: Mapping[Split, Sequence[Item]],
        source: EncoderFeatures,
        views: Sequence[View],
        seed: int,
        *,
        batch_size: Count,
        eval_batch_size: Count,
        group_by_length: bool,
        batch_size_per_device: bool = False,
    ) -> None:
        self.corpus = corpus
        self.items = items
        self.source = source
        self.views = views
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.group_by_length = group_by_length
        self.batch_size_per_device = batch_size_per_device

    @property
    def num_training_images(self) -> int:
        """Of an epoch."""
        return len(self.corpus.training_images)

    def images_per_step(self, sharing: Sharing) -> int:
        """How many images a training step sees, on all devices together.

        Raises:
            ConfigError: if a batch, or the last of an epoch, cannot be shared out.
        """
        number = sharing.images_per_step(self.batch_size, self.batch_size_per_device)
        sharing.check_last_batch(self.num_training_images, number)
        return number

    def train(self, sharing: Sharing = _ALONE) -> TrainingLoader:
        """Shuffled anew in each epoch; every process sees its share of each step's images."""
        images = self.items["train"][: self.num_training_images]
        images_per_step = self.images_per_step(sharing)
        order = EpochSampler(
            len(images),
            self.seed,
            num_views=1 + len(self.views),
            lengths=[max(map(len, item.captions)) for item in images],
            pool=BATCHES_PER_POOL * images_per_step if self.group_by_length else 1,
        )
        steps = StepSampler(order, images_per_step, sharing)
        return TrainingLoader(self._items("train"), steps, **self._options())

    def evaluation(self, split: Split, sharing: Sharing = _ALONE) -> DataLoader[Batch]:
        """In the order of the corpus, each image once, in one process or another."""
        numbers = range(sharing.rank, len(self.items[split]), sharing.num_ranks)
        loader: DataLoader[Batch] = DataLoader(
            self._items(split),
            batch_size=self.eval_batch_size,
            sampler=numbers,
            **self._options(),
        )
        return loader

    def _items(self, split: Split) -> Any:
        items = self.items[split]
        return self._with_photos(items) if self.source.trained else items

    def _options(self) -> dict[str, Any]:
        """Of every DataLoader."""
        trained = self.source.trained
        return {
            "num_workers": self.source.num_workers if trained else 0,
            "collate_fn": pixel_batch if trained else self._collate,
            # DataLoader draws a seed per iterator, and a resumed run makes another number of
            # iterators: with its own generator the global random state does not depend on it.
            "generator": torch.Generator(),
            "pin_memory": self.source.device.type == "cuda",
        }

    def _with_photos(self, items: Sequence[Item]) -> ItemsWithPhotos:
        paths = {image.image_id: image.path for image in self.corpus.images}
        views = [None, *self.views]
        photos = [(paths[item.image_id], views[item.view]) for item in items]
        return ItemsWithPhotos(items, Photos(photos, self.source.preprocessing))

    def _collate(self, items: Sequence[Item]) -> CaptionBatch:
        assert isinstance(self.source, StoredFeatures)
        if not any(item.view for item in items):
            features = self.source.open(self.corpus).read(item.image_id for item in items)
            return caption_batch(items, features)
        stores = [self.source.open(self.corpus, view) for view in (None, *self.views)]
        rows = [stores[item.view].read([item.image_id]) for item in items]
        grid, pooled = (torch.cat([getattr(r, part) for r in rows]) for part in ("grid", "pooled"))
        return caption_batch(items, ImageFeatures(grid, pooled))


def _rows(batch: Batch, rows: slice) -> Batch:
    """Some images of a batch."""
    image_ids, tokens = batch.image_ids[rows], batch.tokens[rows]
    if isinstance(batch, PixelBatch):
        return replace(batch, image_ids=image_ids, tokens=tokens, pixels=batch.pixels[rows])
    features = ImageFeatures(batch.features.grid[rows], batch.features.pooled[rows])
    return replace(batch, image_ids=image_ids, tokens=tokens, features=features)
