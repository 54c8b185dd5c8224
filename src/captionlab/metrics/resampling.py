"""Corpus scores of any resample of the images, from what each metric sums over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from captionlab.metrics import registry
from captionlab.metrics.protocol import Array, Metric


class _Part(NamedTuple):
    """The columns of one metric."""

    metric: type[Metric]
    suffix: str  # of its scores' names
    columns: slice


class CorpusStatistics:
    """What one set of captions got, image by image, ready to be summed.

    Scores of metrics that are not registered are left out.

    Args:
        per_image: score name to one value per image.
        statistics: metric name to one row per image, for the metrics that have some.

    Attributes:
        columns: float64 (B, S), whose sums over images determine every score.
        names: of the scores.

    Raises:
        ValueError: if the numbers of images differ, or there is nothing to sum.
    """

    def __init__(
        self,
        per_image: Mapping[str, Sequence[float]],
        statistics: Mapping[str, Sequence[Sequence[float]]],
    ) -> None:
        arrays: list[Array] = []
        self._parts: list[_Part] = []
        begin = 0
        for metric in registry.metrics():
            for suffix in registry.SUFFIXES:
                rows = _rows(metric, suffix, per_image, statistics)
                if rows is not None:
                    columns = slice(begin, begin := begin + rows.shape[1])
                    self._parts.append(_Part(metric, suffix, columns))
                    arrays.append(rows)
        self.columns: Array = np.concatenate(arrays, axis=1)
        self.names = sorted(self.scores(self.columns.sum(axis=0, keepdims=True)))

    def __len__(self) -> int:
        return len(self.columns)

    def scores(self, sums: Array, num_images: int | None = None) -> dict[str, Array]:
        """Corpus scores by name.

        Args:
            sums: (R, S), each row the sum of `columns` over a resample.
            num_images: in each resample; None for all of them.

        Returns:
            Each (R,), as fractions or on the metric's own scale.
        """
        values: dict[str, Array] = {}
        for metric, suffix, columns in self._parts:
            names = [score.name + suffix for score in metric.scores]
            resampled = metric.resample(sums[:, columns], num_images or len(self))
            values |= zip(names, resampled, strict=True)
        return values


def _rows(
    metric: type[Metric],
    suffix: str,
    per_image: Mapping[str, Sequence[float]],
    statistics: Mapping[str, Sequence[Sequence[float]]],
) -> Array | None:
    """What a metric sums over images, (B, S); None where it has not scored them."""
    if metric.has_statistics:
        rows = statistics.get(metric.name + suffix)
        return None if rows is None else metric.summands(np.array(rows, dtype=float))
    names = [score.name + suffix for score in metric.scores]
    if not all(name in per_image for name in names):
        return None
    return np.stack([np.array(per_image[name], dtype=float) for name in names], axis=1)
