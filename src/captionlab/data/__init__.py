"""Data: files on disk in, batches of encoded images and captions out."""

from captionlab.data.corpus import CaptionCorpus, CaptionedImage
from captionlab.data.datamodule import (
    CaptionDataModule,
    COCODataModule,
    Flickr8kDataModule,
    Flickr30kDataModule,
    FolderDataModule,
    ShapesDataModule,
)
from captionlab.data.feature_store import FeatureStore, ImageEncoder
from captionlab.data.readers import read_corpus

__all__ = [
    "COCODataModule",
    "CaptionCorpus",
    "CaptionDataModule",
    "CaptionedImage",
    "FeatureStore",
    "Flickr8kDataModule",
    "Flickr30kDataModule",
    "FolderDataModule",
    "ImageEncoder",
    "ShapesDataModule",
    "read_corpus",
]
