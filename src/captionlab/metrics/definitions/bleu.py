"""BLEU-1 to 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from captionlab.metrics.counting import ORDERS, Ints, NGramCounts
from captionlab.metrics.protocol import Array, Metric, MetricScores, Score, TokenizedCaptions
from captionlab.metrics.registry import register

_TINY, _SMALL = 1e-15, 1e-9  # pycocoevalcap's, so that nothing is divided by zero


@register
class Bleu(Metric):
    """Corpus BLEU with the closest reference length, equal to pycocoevalcap's to the last bit.

    Source:
        Papineni et al. 2002.
    """

    name = "bleu"
    scores = (
        Score("bleu_1", "BLEU-1", importance=50),
        Score("bleu_2", "BLEU-2", importance=40),
        Score("bleu_3", "BLEU-3", importance=30),
        Score("bleu_4", "BLEU-4", importance=90),
    )
    has_statistics = True

    def score(self, captions: TokenizedCaptions) -> MetricScores:
        """Score one caption per image; the statistics are those of `bleu_statistics`."""
        counts = _count(captions.ngrams)
        corpus = bleu(counts.sum(axis=0).tolist())
        rows: list[list[float]] = counts.tolist()
        by_image = zip(*map(bleu, rows), strict=True)
        names = [score.name for score in self.scores]
        return MetricScores(
            dict(zip(names, corpus, strict=True)),
            {name: list(values) for name, values in zip(names, by_image, strict=True)},
            rows,
        )

    @classmethod
    def resample(cls, sums: Array, num_images: int) -> list[Array]:
        """As `bleu`, of many sums (R, 10) at once; equal to it but for rounding."""
        correct, guessed = sums[:, :ORDERS] + _TINY, sums[:, ORDERS : 2 * ORDERS] + _SMALL
        with np.errstate(divide="ignore", over="ignore"):
            ratio = (sums[:, 8] + _TINY) / (sums[:, 9] + _SMALL)
            brevity = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
        logs = np.cumsum(np.log(correct / guessed), axis=1)
        return [np.exp(logs[:, k] / (k + 1)) * brevity for k in range(ORDERS)]


def bleu_statistics(counts: NGramCounts) -> list[list[float]]:
    """What BLEU sums over captions, one row of 10 for each.

    N-grams that a reference has too, and n-grams written, both for orders 1 to 4; length, and the
    closest length of a reference, the shorter of two as close.
    """
    by_caption: list[list[float]] = _count(counts).tolist()
    return by_caption


def _count(counts: NGramCounts) -> Ints:
    """The rows of `bleu_statistics` as an array (captions, 10)."""
    pairs, lengths = counts.pairs, counts.lengths
    columns = []
    for matched, order in zip(counts.matched, counts.references.orders, strict=True):
        rows, at = order.locate(pairs.image[matched.caption], matched.number)
        matches = np.minimum(matched.times[rows], order.most[at])
        columns.append(np.bincount(matched.caption[rows], matches, len(lengths)).astype(int))
    columns += [np.maximum(0, lengths - k) for k in range(ORDERS)]
    theirs = counts.references.lengths[pairs.reference]
    beyond = 1 + int(max(theirs.max(), lengths.max()))
    distance = np.abs(theirs - lengths[pairs.caption])
    closest = np.minimum.reduceat(distance * beyond + theirs, pairs.begins) % beyond
    return np.stack([*columns, lengths, closest], axis=1)


def bleu(statistics: Sequence[float]) -> list[float]:
    """BLEU-1 to 4 of one caption's statistics, or of their sums."""
    correct, guessed = statistics[:ORDERS], statistics[ORDERS : 2 * ORDERS]
    length, reference = statistics[2 * ORDERS :]
    product, scores = 1.0, []
    for k in range(ORDERS):
        product *= (float(correct[k]) + _TINY) / (float(guessed[k]) + _SMALL)
        scores.append(product ** (1.0 / (k + 1)))
    ratio = (length + _TINY) / (reference + _SMALL)
    if ratio < 1:
        scores = [score * math.exp(1 - 1 / ratio) for score in scores]
    return scores
