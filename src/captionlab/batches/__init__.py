"""Batches: a corpus, a vocabulary and features in, `CaptionBatch` out."""

from captionlab.batches.datamodule import (
    CaptionDataModule,
    COCODataModule,
    Flickr8kDataModule,
    Flickr30kDataModule,
    FolderDataModule,
    ShapesDataModule,
)

__all__ = [
    "COCODataModule",
    "CaptionDataModule",
    "Flickr8kDataModule",
    "Flickr30kDataModule",
    "FolderDataModule",
    "ShapesDataModule",
]
