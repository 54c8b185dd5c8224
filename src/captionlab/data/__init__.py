"""Data: files on disk in, batches of encoded images and captions out."""

from captionlab.data.augmentation import (
    CropAugmentation,
    FlipAugmentation,
    RandomAugmentation,
)
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
    "CropAugmentation",
    "FeatureStore",
    "Flickr8kDataModule",
    "Flickr30kDataModule",
    "FlipAugmentation",
    "FolderDataModule",
    "ImageEncoder",
    "RandomAugmentation",
    "ShapesDataModule",
    "read_corpus",
]
