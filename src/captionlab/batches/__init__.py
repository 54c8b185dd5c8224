"""Batches: a corpus, a vocabulary and a FeatureSource in, `CaptionBatch` out."""

from captionlab.batches.captions import Item, TokenizedCorpus, encode_captions
from captionlab.batches.loaders import Batch, Loaders

__all__ = ["Batch", "Item", "Loaders", "TokenizedCorpus", "encode_captions"]
