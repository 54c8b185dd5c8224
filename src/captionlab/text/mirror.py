"""What people say of a photo, and of its mirror image."""

from __future__ import annotations

from collections.abc import Iterable

_MIRRORED = {"left": "right", "right": "left"}


def mirror_words(words: Iterable[str]) -> list[str]:
    """A caption of the mirrored photo: left is right."""
    return [_MIRRORED.get(word, word) for word in words]
