"""ROUGE-L."""

from __future__ import annotations

import numpy as np

from captionlab.metrics.counting import Ints, PaddedWords
from captionlab.metrics.protocol import Metric, MetricScores, Score, TokenizedCaptions
from captionlab.metrics.registry import register

_BETA = 1.2


@register
class RougeL(Metric):
    """F-measure of the longest common subsequence, mean over images.

    Equal to pycocoevalcap's to the last bit, for which words are split at single spaces.

    Source:
        Lin 2004, with beta 1.2.
    """

    name = "rouge_l"
    scores = (Score("rouge_l", "ROUGE-L", importance=70),)

    def score(self, captions: TokenizedCaptions) -> MetricScores:
        """Score one caption per image."""
        references = captions.references.padded
        words = PaddedWords.of(captions.texts, dict(references.word_ids))
        sizes = [len(texts) for texts in captions.references.texts.values()]
        caption = np.repeat(np.arange(len(sizes)), sizes)  # of a reference
        common = _longest_common_subsequences(references, words, caption)
        begins = np.cumsum([0, *sizes[:-1]])
        precision = np.maximum.reduceat(common / words.lengths[caption], begins)
        recall = np.maximum.reduceat(common / references.lengths, begins)
        weighted = np.where(is_any := precision > 0, recall + _BETA**2 * precision, 1.0)
        values = np.where(is_any, (1 + _BETA**2) * precision * recall / weighted, 0.0)
        return MetricScores.mean_of(self.name, values.tolist())


def _longest_common_subsequences(
    references: PaddedWords, captions: PaddedWords, caption: Ints
) -> Ints:
    """Their lengths, given the caption of each reference, by one addition per word.

    Bits of a row are words of the caption.

    Source:
        Hyyrö 2004.
    """
    longest = captions.ids.shape[1]
    bits = np.uint64 if longest <= 64 else object  # Python's integers have as many as needed
    order = np.argsort(-references.lengths, kind="stable")  # at each word, those that go on first
    theirs, ours = references.ids[order].T, captions.ids[caption[order]].T
    rows, one = np.zeros(len(order), bits), np.array(1, bits)
    for t, words in enumerate(theirs):
        n = np.count_nonzero(references.lengths > t)
        positions = np.zeros(n, bits)
        for i, written in enumerate(ours):
            positions |= (written[:n] == words[:n]).astype(bits) << np.array(i, bits)
        either = rows[:n] | positions
        rows[:n] = either & (either ^ (either - (rows[:n] << one | one)))
    lengths = np.empty(len(order), np.int64)
    lengths[order] = [row.bit_count() for row in rows.tolist()]
    return lengths
