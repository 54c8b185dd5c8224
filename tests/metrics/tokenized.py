"""Scores of text that is tokenised already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from captionlab.metrics import registry
from captionlab.metrics.protocol import Scores, TokenizedCaptions, TokenizedReferences


def tokenized(
    references: Mapping[str, Sequence[str]], captions: Mapping[str, str]
) -> TokenizedCaptions:
    texts = [captions[image] for image in references]
    return TokenizedCaptions(texts, TokenizedReferences(references))


def score_tokenized(
    references: Mapping[str, Sequence[str]],
    captions: Mapping[str, str],
    metrics: Sequence[str] | None = None,
) -> Scores:
    """By the metrics named, or by all that need no Java."""
    chosen = registry.java_free() if metrics is None else registry.find_metrics(metrics)
    scores = Scores({}, {}, {}, list(references), {})
    for metric in chosen:
        values = metric().score(tokenized(references, captions))
        scores.corpus.update(values.corpus)
        scores.per_image.update(values.per_image)
        if metric.has_statistics:
            scores.statistics[metric.name] = values.statistics
    return scores
