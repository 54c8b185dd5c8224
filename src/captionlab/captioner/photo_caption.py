"""What a model says about a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """One word of a caption.

    Attributes:
        text: of the word.
        probability: given the photo and the words before it, in [0, 1].
        attention: weights over the photo, (rows, columns), which sum to 1; None unless asked for.
        saliency: how much the word depends on each part of the photo, (rows, columns): by
            `gradients` shares that sum to 1, by `occlusion` how much its log-probability falls
            when the part is hidden; None unless asked for.
    """

    text: str
    probability: float
    attention: Map | None = None
    saliency: Map | None = None


@dataclass(frozen=True)
class Alternative:
    """One of the best captions of a photo.

    Attributes:
        text: words joined by spaces.
        log_probability: natural logarithm, its end counted.
        truncated: whether the search stopped it at the longest length.
    """

    text: str
    log_probability: float
    truncated: bool


@dataclass(frozen=True)
class PhotoCaption:
    """What a model says about a photo.

    Attributes:
        source: path or address as given; for an image or an array, its index among the photos.
        text: the caption, words joined by spaces; empty where the photo could not be read.
        log_probability: of the caption, natural logarithm, its end counted.
        words: of the caption; none where they were not asked for.
        alternatives: the best captions, `text` first, as many as were asked for at most.
        truncated: whether the search stopped the caption at its longest length, where its end, and
            the probability of the end, are missing.
        error: why the photo could not be read; None if it could.
        pixels: what the encoder saw, uint8 (S, S, 3); None unless maps or pixels were
            asked for.
    """

    source: str | int
    text: str
    log_probability: float
    words: tuple[Word, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    truncated: bool = False
    error: str | None = None
    pixels: NDArray[np.uint8] | None = None

    @property
    def probability(self) -> float:
        """Of the caption: the product of those of its words and of its end."""
        return math.exp(self.log_probability)

    @classmethod
    def unreadable(cls, source: str | int, error: str) -> PhotoCaption:
        """No caption, and why."""
        return cls(source, "", -math.inf, error=error)

    def to_json(self) -> dict[str, Any]:
        """In plain values, without maps and pixels; of an unreadable photo source and error."""
        if self.error is not None:
            return {"source": self.source, "error": self.error}
        return {
            "source": self.source,
            "caption": self.text,
            "log_probability": self.log_probability,
            "truncated": self.truncated,
            "words": [{"text": w.text, "probability": w.probability} for w in self.words],
            "alternatives": [vars(alternative) for alternative in self.alternatives],
        }
