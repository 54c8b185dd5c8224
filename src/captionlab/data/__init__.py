"""Data: files on disk in, batches of encoded images and captions out."""

from captionlab.data.augmentation import (
    CropAugmentation,
    FlipAugmentation,
    RandomAugmentation,
)
from captionlab.data.corpus import CaptionCorpus, CaptionedImage
from captionlab.data.datamodule import CaptionDataModule, Flickr8kDataModule, ShapesDataModule
from captionlab.data.feature_store import FeatureStore, ImageEncoder
from captionlab.data.flickr8k import read_flickr8k

__all__ = [
    "CaptionCorpus",
    "CaptionDataModule",
    "CaptionedImage",
    "CropAugmentation",
    "FeatureStore",
    "Flickr8kDataModule",
    "FlipAugmentation",
    "ImageEncoder",
    "RandomAugmentation",
    "ShapesDataModule",
    "read_flickr8k",
]
