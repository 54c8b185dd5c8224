"""Everything that is known of one caption per image: scores, language, truth."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from captionlab.corpora import CaptionCorpus
from captionlab.corpora.corpus import Split
from captionlab.metrics import CaptionMetrics, MetricName
from captionlab.metrics.caption_metrics import TokenizerName, with_suffix
from captionlab.metrics.diversity import language, warning
from captionlab.metrics.java import Meteor
from captionlab.seeding import derive_seed
from captionlab.text import PTBTokenizer
from captionlab.types import Scores

log = logging.getLogger(__name__)

Truth = Callable[[Mapping[str, str]], dict[str, float]]
OFFICIAL_METRICS: tuple[MetricName, ...] = ("bleu", "meteor", "rouge_l", "cider_d")
NUM_SHUFFLES = 10


@cache
def shared_meteor() -> Meteor:
    """METEOR's process, one for all that this process scores; begins to load at the first call."""
    return Meteor()


@dataclass
class ScoredCaptions:
    """One caption per image of a split, and what it is worth.

    Attributes:
        captions: image id to text, in the order of the split.
        scores: official.
        blind: corpus scores of the same captions given to other images.
        human: corpus scores of each image's first reference against its others; empty where they
            cannot be had.
        language: see `captionlab.metrics.diversity.language`.
        truth: what the data set itself knows of captions, if anything.
        warnings: what a user should know before quoting a score.
        metrics: the metric that scored them, ready for more.
    """

    captions: dict[str, str]
    scores: Scores
    blind: dict[str, float]
    human: dict[str, float]
    language: dict[str, float]
    truth: dict[str, float]
    metrics: CaptionMetrics
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What a result file holds."""
        return {
            "scores": self.scores.corpus,
            "missing": self.scores.missing,
            "blind": self.blind,
            "human": self.human,
            "language": self.language,
            "truth": self.truth,
            "warnings": self.warnings,
            "num_images": len(self.captions),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One entry per image: its caption, its scores, and what corpus scores sum."""
        scores = self.scores
        return [
            {
                "image_id": image,
                "caption": self.captions[image],
                "scores": {name: values[i] for name, values in scores.per_image.items()},
                "statistics": {name: rows[i] for name, rows in scores.statistics.items()},
            }
            for i, image in enumerate(scores.image_ids)
        ]


def score_captions(
    corpus: CaptionCorpus,
    split: Split,
    captions: Mapping[str, str],
    *,
    truth: Truth,
    seed: int,
    tokenizer: TokenizerName = "stanford",
    subset: bool = False,
) -> ScoredCaptions:
    """Score one caption per image.

    Args:
        corpus: has the references, and the training captions that novelty is told by.
        split: of the images.
        captions: image id to text.
        truth: what the data set knows of captions.
        seed: of the shuffles.
        tokenizer: `stanford`; `python` gives scores under names of their own, without METEOR.
        subset: score the given captions where some of the split are missing.

    Raises:
        DataError: for a caption of an unknown image, or a missing one unless `subset`.
    """
    references = corpus.references(split)
    if subset:
        references = {i: refs for i, refs in references.items() if i in captions} or references
    wanted = [name for name in OFFICIAL_METRICS if name != "meteor" or tokenizer == "stanford"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        metrics = CaptionMetrics(
            references,
            metrics=wanted,
            tokenizer=tokenizer,
            fallback=True,
            meteor=shared_meteor() if "meteor" in wanted else None,
        )
        scores = metrics.score(captions)
    for metric, reason in scores.missing.items():
        log.warning("%s is missing: %s", metric, reason)
    human = metrics.score_people()
    tokenize = PTBTokenizer()
    training = {
        tuple(tokenize(caption)) for image in corpus.splits["train"] for caption in image.captions
    }
    found = language([tokenize(captions[i]) for i in scores.image_ids], training)
    collapsed = warning(found, len(captions))
    if collapsed:
        log.warning("%s", collapsed)
    ordered = {image: captions[image] for image in scores.image_ids}
    blind = _blind(metrics, ordered, seed)
    people = human.corpus if human else {}
    if tokenizer == "python":  # never to be mistaken for official scores
        scores = Scores(
            with_suffix(scores.corpus),
            with_suffix(scores.per_image),
            with_suffix(scores.statistics),
            scores.image_ids,
            {"meteor": "it needs the tokenizer 'stanford'"},
        )
        blind, people = with_suffix(blind), with_suffix(people)
    return ScoredCaptions(
        captions=ordered,
        scores=scores,
        blind=blind,
        human=people,
        language=found,
        truth=truth(ordered),
        metrics=metrics,
        warnings=[collapsed] if collapsed else [],
    )


def _blind(metrics: CaptionMetrics, captions: dict[str, str], seed: int) -> dict[str, float]:
    """Scores of the same captions given to other images, the mean of `NUM_SHUFFLES` shuffles.

    A caption depends on nothing but its photo, so decoding photos shuffled among the images would
    give the same captions shuffled.
    """
    images = list(captions)
    if len(images) < 2:
        return {}
    order = torch.Generator().manual_seed(derive_seed(seed, "blind"))
    total: dict[str, float] = {}
    java_free = [name for name in OFFICIAL_METRICS if name != "meteor"]
    for _ in range(NUM_SHUFFLES):
        # A cycle through all images in random order: none keeps its own photo.
        cycle = torch.randperm(len(images), generator=order).tolist()
        shuffled = {
            images[to]: captions[images[source]]
            for to, source in zip(cycle, cycle[1:] + cycle[:1], strict=True)
        }
        for name, value in metrics.score(shuffled, metrics=java_free).corpus.items():
            total[name] = total.get(name, 0.0) + value / NUM_SHUFFLES
    return total
