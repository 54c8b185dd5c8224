"""METEOR 1.5."""

from __future__ import annotations

import numpy as np

from captionlab.metrics.java import shared_meteor
from captionlab.metrics.protocol import Array, Metric, MetricScores, Score, TokenizedCaptions
from captionlab.metrics.registry import register

# Parameters of METEOR 1.5 for English. Those that weigh what is summed over images are whole
# numbers here, so that sums are exact: delta is 3/4, stages weigh 1, 0.6, 0.8 and 0.6.
_ALPHA, _BETA, _GAMMA = 0.85, 0.2, 0.6
_CONTENT, _FUNCTION = 3.0, 1.0
_STAGES = np.array([10.0, 6.0, 8.0, 6.0])  # exact, stem, synonym, paraphrase


@register
class Meteor(Metric):
    """METEOR 1.5 (`-l en -norm`), by the Java program that pycocoevalcap ships.

    Its 23 statistics: words, and function words, of caption and reference; for each stage of
    matching its matches among content and function words of both; chunks (0 where a caption
    matches as a whole); words matched of both.

    Source:
        Denkowski & Lavie 2014, sec. 3; parameters of the English ranking task.
    """

    name = "meteor"
    scores = (Score("meteor", "METEOR", importance=80),)
    has_statistics = True
    needs_java = True
    tokenizer = "stanford"

    def prepare(self) -> None:
        """Let Java load its paraphrases, which takes some seconds."""
        shared_meteor()

    def score(self, captions: TokenizedCaptions) -> MetricScores:
        """Score one caption per image.

        Raises:
            JavaError: if METEOR fails; it may be asked again.
        """
        texts = captions.references.texts
        written = dict(zip(texts, captions.texts, strict=True))
        corpus, values, statistics = shared_meteor().score(texts, written)
        return MetricScores({self.name: corpus}, {self.name: values}, statistics)

    @classmethod
    def summands(cls, statistics: Array) -> Array:
        """Six whole numbers: 40 times the matches and 4 times the words, each first of the
        caption and then of the reference; chunks; matched words of both.

        METEOR sees no fragment where caption and reference match as one chunk.
        """
        words, reference_words, function, reference_function = statistics[:, :4].T
        stages = statistics[:, 4:20].reshape(-1, 4, 4)  # (B, stage, [content, theirs, function, .])
        chunks, matched, reference_matched = statistics[:, 20:23].T
        whole = (matched == words) & (reference_matched == reference_words) & (chunks == 1)
        columns = [
            *(_weigh(stages[:, :, k] @ _STAGES, stages[:, :, k + 2] @ _STAGES) for k in (0, 1)),
            _weigh(words - function, function),
            _weigh(reference_words - reference_function, reference_function),
            np.where(whole, 0, chunks),
            matched + reference_matched,
        ]
        return np.stack(columns, axis=1)

    @classmethod
    def resample(cls, sums: Array, num_images: int) -> list[Array]:
        """METEOR of summed `summands` (R, 6)."""
        matches, reference_matches, words, reference_words, chunks, matched = sums.T
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = matches / words / _STAGES[0]
            recall = reference_matches / reference_words / _STAGES[0]
            mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
            fragmentation = chunks / (matched / 2)
            score = mean * (1 - _GAMMA * fragmentation**_BETA)
        return [np.nan_to_num(score, nan=0.0)]


def _weigh(content: Array, function: Array) -> Array:
    return _CONTENT * content + _FUNCTION * function
