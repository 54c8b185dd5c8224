"""Corpora: a data set on disk in, a `CaptionCorpus` out. Imports no torch until photos are read."""

from captionlab.corpora.corpus import SPLITS, CaptionCorpus, CaptionedImage, Split
from captionlab.corpora.readers import read_corpus

__all__ = ["SPLITS", "CaptionCorpus", "CaptionedImage", "Split", "read_corpus"]
