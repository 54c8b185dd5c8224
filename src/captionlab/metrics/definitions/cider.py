"""CIDEr-D, which papers call CIDEr."""

from __future__ import annotations

import math

import numpy as np

from captionlab.metrics.counting import ORDERS, NGramCounts
from captionlab.metrics.protocol import Metric, MetricScores, Score, TokenizedCaptions
from captionlab.metrics.registry import register

_SIGMA = 6.0


@register
class CiderD(Metric):
    """CIDEr-D, in [0, 10], with the document frequencies of the references.

    Equal to pycocoevalcap's to the last bit. In a resample of the images the document frequencies
    stay those of the whole set.

    Source:
        Vedantam et al. 2015, sec. 4, with sigma 6.
    """

    name = "cider_d"
    scores = (Score("cider_d", "CIDEr-D", importance=100),)

    def score(self, captions: TokenizedCaptions) -> MetricScores:
        """Score one caption per image."""
        return MetricScores.mean_of(self.name, cider_d(captions.ngrams))


def cider_d(counts: NGramCounts) -> list[float]:
    """CIDEr-D of each caption against the references of its image."""
    references, pairs, lengths = counts.references, counts.pairs, counts.lengths
    # The length that CIDEr-D compares is the number of bigrams.
    theirs = references.lengths[pairs.reference]
    delta = np.maximum(0, lengths - 1)[pairs.caption] - np.maximum(0, theirs - 1)
    differences, place = np.unique(delta, return_inverse=True)
    penalties = [math.e ** (-(float(d) ** 2) / (2 * _SIGMA**2)) for d in differences.tolist()]
    penalty = np.array(penalties)[place]
    total = np.zeros(len(lengths))
    to_pair = pairs.begins - references.first[pairs.image]
    for matched, order in zip(counts.matched, references.orders, strict=True):
        value = order.weigh(matched)
        norm = np.sqrt(np.bincount(matched.caption, value * value, len(lengths)))[pairs.caption]
        rows, at = order.locate(pairs.image[matched.caption], matched.number)
        rows, at = order.expand(rows, at)
        known = order.value[at]
        products = np.minimum(value[rows], known) * known
        pair = order.reference[at] + to_pair[matched.caption[rows]]
        similarity = np.bincount(pair, products, len(pairs.caption))
        similarity = similarity.astype(np.float64)  # bincount of nothing gives integers
        norms = norm * order.norm[pairs.reference]
        np.divide(similarity, norms, out=similarity, where=norms != 0)
        total = total + np.bincount(pairs.caption, similarity * penalty, len(lengths))
    sizes = references.num_references[pairs.image]
    values: list[float] = (total / ORDERS / sizes * 10.0).tolist()
    return values
