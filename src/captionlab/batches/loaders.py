"""Batches of a corpus, split by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.utils.data import DataLoader

from captionlab.batches.captions import Item
from captionlab.batches.collate import ItemsWithPhotos, caption_batch, pixel_batch
from captionlab.batches.sampler import BATCHES_PER_POOL, EpochSampler
from captionlab.corpora import CaptionCorpus, Split
from captionlab.features.source import EncoderFeatures, StoredFeatures
from captionlab.images.augmentation import View
from captionlab.images.pixels import Photos
from captionlab.options import Count
from captionlab.types import CaptionBatch, ImageFeatures, PixelBatch

Batch = CaptionBatch | PixelBatch


class Loaders:
    """Makes the loader of each split: features with captions, or pixels where they are trained.

    Args:
        corpus: its images and splits.
        items: from `encode_captions`.
        source: of the images' features, prepared.
        views: of training photos beside the plain one, of which each epoch draws one.
        seed: of the order of training images.
        batch_size: images per training batch, with all their captions.
        eval_batch_size: images per validation and test batch.
        group_by_length: batch training images whose longest captions are about as long.
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
    ) -> None:
        self.corpus = corpus
        self.items = items
        self.source = source
        self.views = views
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.group_by_length = group_by_length

    def train(self) -> DataLoader[Batch]:
        """Shuffled anew in each epoch."""
        images = self.items["train"][: len(self.corpus.splits["train"])]
        sampler = EpochSampler(
            len(images),
            self.seed,
            shuffle=True,
            num_views=1 + len(self.views),
            lengths=[max(map(len, item.captions)) for item in images],
            pool=BATCHES_PER_POOL * self.batch_size if self.group_by_length else 1,
        )
        return self._loader("train", self.batch_size, sampler)

    def evaluation(self, split: Split) -> DataLoader[Batch]:
        """In the order of the corpus, each image once."""
        sampler = EpochSampler(len(self.items[split]), self.seed, shuffle=False)
        return self._loader(split, self.eval_batch_size, sampler)

    def _loader(self, split: Split, batch_size: int, sampler: EpochSampler) -> DataLoader[Batch]:
        items, trained = self.items[split], self.source.trained
        loader: DataLoader[Batch] = DataLoader(
            self._with_photos(items) if trained else items,  # type: ignore[arg-type]
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.source.num_workers if trained else 0,
            collate_fn=pixel_batch if trained else self._collate,
            # It draws a number per iterator, and a resumed training makes another number of these.
            generator=torch.Generator(),
            pin_memory=self.source.device.type == "cuda",
        )
        return loader

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
