"""What a metric says of itself, and how it scores captions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from captionlab.metrics.counting import NGramCounts, NGramReferences, PaddedWords

TokenizerName = Literal["stanford", "python"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One number that a metric gives a set of captions.

    Attributes:
        name: in files, such as `bleu_4`.
        title: in tables and plots.
        importance: where there is no room for all scores, those of the largest importance stay.
        scale: by which tables and plots multiply it.
        higher_is_better: whether the largest value is the best.
    """

    name: str
    title: str
    importance: int = 0
    scale: float = 100.0
    higher_is_better: bool = True


class TokenizedReferences:
    """The references of all images, with their words and n-grams once somebody asks for them.

    Args:
        texts: image id to its tokenised references, words joined by spaces; at least one.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self.texts = texts

    @cached_property
    def ngrams(self) -> NGramReferences:
        """Counted once for all captions that are scored against them."""
        return NGramReferences(self.texts)

    @cached_property
    def padded(self) -> PaddedWords:
        """Split once for all captions that are scored against them."""
        return PaddedWords.of((text for texts in self.texts.values() for text in texts), {})


@dataclass(frozen=True)
class TokenizedCaptions:
    """One tokenised caption per image, and the references of all images.

    Attributes:
        texts: words joined by spaces, in the order of the references.
        references: of the same images, tokenised alike.
    """

    texts: Sequence[str]
    references: TokenizedReferences

    @cached_property
    def ngrams(self) -> NGramCounts:
        """Counted once for all metrics."""
        return self.references.ngrams.count(self.texts)


@dataclass(frozen=True)
class MetricScores:
    """What one metric gives captions.

    Attributes:
        corpus: score name to the score of all images together, as a fraction or on the metric's
            own scale.
        per_image: score name to one value per image, in the order of the captions.
        statistics: what the metric sums over images before it scores, one row per image; empty
            for a metric without statistics.
    """

    corpus: dict[str, float]
    per_image: dict[str, list[float]]
    statistics: list[list[float]] = field(default_factory=list)

    @classmethod
    def mean_of(cls, name: str, values: list[float]) -> MetricScores:
        """Of a metric whose corpus score is the mean over images."""
        return cls({name: float(np.mean(np.array(values)))}, {name: values})


@dataclass  # not frozen: torchmetrics rebuilds what a metric computes, field by field
class Scores:
    """The scores of one caption per image by several metrics.

    Attributes:
        corpus: score name to the score of all images together, as a fraction or on the metric's
            own scale.
        per_image: score name to one value per image, in the order of `image_ids`.
        statistics: metric name to what that metric sums over images before it scores, one row
            per image. With `per_image` they give the scores of any resample.
        image_ids: the images scored, each once.
        missing: score name to the reason why there is none.
    """

    corpus: dict[str, float]
    per_image: dict[str, list[float]]
    statistics: dict[str, list[list[float]]]
    image_ids: Sequence[str]
    missing: dict[str, str]


class Metric(ABC):
    """Scores captions against references.

    A subclass in `captionlab.metrics.definitions`, or elsewhere with the decorator
    `captionlab.metrics.registry.register`, is a metric in all tables, plots and files.

    Args:
        jar_folder: holds the metric's `jars`.

    Attributes:
        name: in `Scores.statistics`, and where metrics are chosen.
        scores: what it gives; at least one.
        has_statistics: whether its corpus scores come from sums of `MetricScores.statistics`; if
            not they are means over images.
        needs_java: whether it starts Java.
        tokenizer: the only one it is defined on; None for any.
        jars: files that a user must get; the metric is computed only where a folder is named.
    """

    name: ClassVar[str]
    scores: ClassVar[tuple[Score, ...]]
    has_statistics: ClassVar[bool] = False
    needs_java: ClassVar[bool] = False
    tokenizer: ClassVar[TokenizerName | None] = None
    jars: ClassVar[tuple[str, ...]] = ()

    def __init__(self, jar_folder: Path | None = None) -> None:
        self.jar_folder = jar_folder

    def prepare(self) -> None:  # noqa: B027  (most have nothing to load)
        """Start loading what `score` will need, and return at once."""

    @abstractmethod
    def score(self, captions: TokenizedCaptions) -> MetricScores:
        """Score one caption per image.

        Raises:
            JavaError: if the metric needs Java, and that or a jar is missing or fails.
        """

    @classmethod
    def summands(cls, statistics: Array) -> Array:
        """What is added over images, of the statistics of B images; both (B, S)."""
        return statistics

    @classmethod
    def resample(cls, sums: Array, num_images: int) -> list[Array]:
        """Corpus scores of R resamples of the images; a metric with statistics overrides it.

        Args:
            sums: over each resample, (R, S), of `summands`; without statistics, of the values
                per image of each score.
            num_images: in each resample.

        Returns:
            Values (R,) for each of `scores`.
        """
        return [column / num_images for column in sums.T]
