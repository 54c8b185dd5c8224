"""Batches: a corpus, a vocabulary and a FeatureSource in, `CaptionBatch` out."""

from captionlab.batches.captions import Item, TokenizedCorpus, encode_captions
from captionlab.batches.loaders import Batch, Loaders, MicroBatch
from captionlab.batches.sampler import Sharing

__all__ = [
    "Batch",
    "Item",
    "Loaders",
    "MicroBatch",
    "Sharing",
    "TokenizedCorpus",
    "encode_captions",
]
