"""ROUGE-L."""

from __future__ import annotations

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
        references = captions.references.texts.values()
        values = [
            _rouge_l(caption.split(" "), [text.split(" ") for text in texts])
            for caption, texts in zip(captions.texts, references, strict=True)
        ]
        return MetricScores.mean_of(self.name, values)


def _rouge_l(caption: list[str], references: list[list[str]]) -> float:
    positions: dict[str, int] = {}
    for i, word in enumerate(caption):
        positions[word] = positions.get(word, 0) | 1 << i
    common = [_longest_common_subsequence(positions, words) for words in references]
    precision = max(lcs / float(len(caption)) for lcs in common)
    recall = max(lcs / float(len(words)) for lcs, words in zip(common, references, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return ((1 + _BETA**2) * precision * recall) / float(recall + _BETA**2 * precision)


def _longest_common_subsequence(positions: dict[str, int], words: list[str]) -> int:
    """Its length, by one addition per word; bits of `positions` are words of the caption.

    Source:
        Hyyrö 2004.
    """
    row = 0
    for word in words:
        either = row | positions.get(word, 0)
        row = either & (either ^ (either - (row << 1 | 1)))
    return row.bit_count()
