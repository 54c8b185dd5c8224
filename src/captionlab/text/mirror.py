"""Captions of mirrored photos."""

from __future__ import annotations

from collections.abc import Iterable

_MIRRORED = {"left": "right", "right": "left"}


def mirror_words(words: Iterable[str]) -> list[str]:
    """The words of a caption with left and right exchanged."""
    return [_MIRRORED.get(word, word) for word in words]
