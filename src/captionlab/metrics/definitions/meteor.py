"""METEOR 1.5."""

from __future__ import annotations

import numpy as np

from captionlab.metrics.java import shared_meteor
from captionlab.metrics.protocol import Array, Metric, MetricScores, Score, TokenizedCaptions
from captionlab.metrics.registry import register

# Parameters of METEOR 1.5 for English.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGES = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


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
        """METEOR sees no fragment where caption and reference match as one chunk."""
        rows = statistics.copy()
        whole = (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1]) & (rows[:, 20] == 1)
        rows[whole, 20] = 0
        return rows

    @classmethod
    def resample(cls, sums: Array, num_images: int) -> list[Array]:
        """METEOR of summed statistics (R, 23)."""
        words, reference_words, function, reference_function = sums[:, :4].T
        stages = sums[:, 4:20].reshape(-1, 4, 4)  # (R, stage, [content, theirs, function, theirs])
        chunks, matched, reference_matched = sums[:, 20:23].T

        def weigh(content: Array, functional: Array) -> Array:
            return _DELTA * content + (1 - _DELTA) * functional

        with np.errstate(divide="ignore", invalid="ignore"):
            precision = weigh(stages[:, :, 0] @ _STAGES, stages[:, :, 2] @ _STAGES) / weigh(
                words - function, function
            )
            recall = weigh(stages[:, :, 1] @ _STAGES, stages[:, :, 3] @ _STAGES) / weigh(
                reference_words - reference_function, reference_function
            )
            mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
            fragmentation = chunks / ((matched + reference_matched) / 2)
            score = mean * (1 - _GAMMA * fragmentation**_BETA)
        return [np.nan_to_num(score, nan=0.0)]
