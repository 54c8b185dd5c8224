"""Readers: one small file per form in which captions lie on disk."""

from captionlab.corpora.readers.read import DIALECTS, read_corpus

__all__ = ["DIALECTS", "read_corpus"]
