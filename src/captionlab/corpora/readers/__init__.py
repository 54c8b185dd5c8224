"""Readers: one small file per form in which captions lie on disk; a new one is found by itself."""

from captionlab.corpora.readers.read import check_dialect, dialects, read_corpus

__all__ = ["check_dialect", "dialects", "read_corpus"]
