"""Everything that is known of one caption per image: scores, language, truth."""

from __future__ import annotations

import logging
import string
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from captionlab.corpora import CaptionCorpus
from captionlab.corpora.corpus import Split
from captionlab.evaluation.request import Truth
from captionlab.evaluation.result import Prediction, Result
from captionlab.metrics import registry
from captionlab.metrics.diversity import collapse_warning, language
from captionlab.metrics.protocol import Metric, Scores, TokenizerName
from captionlab.metrics.scorer import CaptionScorer, with_suffix
from captionlab.seeding import derive_seed
from captionlab.text import PTBTokenizer, Tokenizer

log = logging.getLogger(__name__)

NUM_SHUFFLES = 10
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def prepare_metrics() -> None:
    """Start loading what the metrics of `score_captions` will need, and return at once."""
    for metric in _chosen(None):
        metric().prepare()


def score_captions(
    corpus: CaptionCorpus,
    split: Split,
    captions: Mapping[str, str],
    *,
    truth: Truth,
    seed: int,
    tokenizer: TokenizerName = "stanford",
    subset: bool = False,
    jar_folder: Path | None = None,
    cleaned: bool = False,
    caption_tokenizer: Tokenizer | None = None,
) -> tuple[Result, list[Prediction]]:
    """Score one caption per image by all metrics.

    Args:
        corpus: has the references, and the training captions by which novelty is decided.
        split: of the images.
        captions: image id to text.
        truth: gives the share of captions' claims that are true of the known scenes.
        seed: of the shuffles.
        tokenizer: `stanford`, or `python`, whose scores have names of their own.
        subset: score the given captions where some of the split are missing.
        jar_folder: holds the jars of metrics that need some; without it they are left out.
        cleaned: score captions and references as `clean` makes them, under names of their own.
        caption_tokenizer: of the run that wrote the captions; None for captions from elsewhere.

    Returns:
        The result and one prediction per image, in the order of the split.

    Raises:
        DataError: for a caption of an unknown image, or a missing one unless `subset`.
    """
    normalise = clean if cleaned else str
    scored = {image: normalise(text) for image, text in captions.items()}
    references = corpus.references(split)
    if subset:
        references = {i: refs for i, refs in references.items() if i in captions} or references
    frozen = tuple((i, tuple(map(normalise, texts))) for i, texts in references.items())
    scorer = _make_scorer(frozen, tokenizer, jar_folder)
    scores, people = scorer.score(scored), scorer.score_people()
    human = people.corpus if people else {}
    ordered = {image: captions[image] for image in scores.image_ids}
    language_values = _language(corpus, ordered, caption_tokenizer)
    collapsed = [text for text in [collapse_warning(language_values, len(ordered))] if text]
    for text in [*(f"{n} is missing: {why}" for n, why in scores.missing.items()), *collapsed]:
        log.warning("%s", text)
    blind = _blind(scorer, {image: scored[image] for image in ordered}, seed)
    suffix = registry.PYTHON_SUFFIX if tokenizer == "python" else ""
    suffix += registry.CLEANED_SUFFIX if cleaned else ""
    if suffix:  # never to be mistaken for official scores
        unfit = _unfit_scores(tokenizer, jar_folder)
        scores = with_suffix(scores, suffix, unfit | scores.missing)
        blind, human = (registry.with_suffix(named, suffix) for named in (blind, human))
    result = Result(
        scores=scores.corpus,
        missing=scores.missing,
        blind=blind,
        human=human,
        language=language_values,
        truth=truth(ordered),
        warnings=collapsed,
        num_images=len(ordered),
    )
    return result, _predictions(ordered, scores)


def clean(text: str) -> str:
    """Lower case without punctuation, hyphens as spaces, as several papers prepared references.

    Example:
        >>> clean("A dog's T-shirt, in red.")
        'a dogs t shirt in red'
    """
    return " ".join(text.lower().replace("-", " ").translate(_WITHOUT_PUNCTUATION).split())


def _chosen(jar_folder: Path | None) -> list[type[Metric]]:
    """All metrics, but for those whose jars a user has not named."""
    return [metric for metric in registry.metrics() if jar_folder or not metric.jars]


def _unfit_scores(tokenizer: TokenizerName, jar_folder: Path | None) -> dict[str, str]:
    """Names of the scores that need another tokenizer, with the reason why there are none."""
    return {
        score.name: f"it needs the tokenizer {metric.tokenizer!r}"
        for metric in _chosen(jar_folder)
        if metric.tokenizer not in (None, tokenizer)
        for score in metric.scores
    }


@lru_cache(maxsize=1)  # several systems, and the runs of a sweep, share their references
def _make_scorer(
    references: tuple[tuple[str, tuple[str, ...]], ...],
    tokenizer: TokenizerName,
    jar_folder: Path | None,
) -> CaptionScorer:
    chosen = [m for m in _chosen(jar_folder) if m.tokenizer in (None, tokenizer)]
    for metric in chosen:
        metric(jar_folder).prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return CaptionScorer(
            dict(references),
            metrics=[metric.name for metric in chosen],
            tokenizer=tokenizer,
            fallback=True,
            jar_folder=jar_folder,
        )


def _language(
    corpus: CaptionCorpus, captions: Mapping[str, str], caption_tokenizer: Tokenizer | None
) -> dict[str, float]:
    tokenize = PTBTokenizer()
    training = (caption for image in corpus.training_images for caption in image.captions)
    if caption_tokenizer is not None:  # a copy of a training caption is one in the run's words
        training = (" ".join(caption_tokenizer(caption)) for caption in training)
    known = {tuple(tokenize(caption)) for caption in training}
    return language([tokenize(caption) for caption in captions.values()], known)


def _predictions(captions: Mapping[str, str], scores: Scores) -> list[Prediction]:
    return [
        Prediction(
            image_id=image,
            caption=captions[image],
            scores={name: values[i] for name, values in scores.per_image.items()},
            statistics={name: rows[i] for name, rows in scores.statistics.items()},
        )
        for i, image in enumerate(scores.image_ids)
    ]


def _blind(scorer: CaptionScorer, captions: dict[str, str], seed: int) -> dict[str, float]:
    """Scores of the same captions given to other images, the mean of `NUM_SHUFFLES` shuffles.

    A caption depends on nothing but its photo, so decoding photos shuffled among the images would
    give the same captions shuffled.
    """
    images = list(captions)
    if len(images) < 2:
        return {}
    order = np.random.default_rng(derive_seed(seed, "blind"))
    total: dict[str, float] = {}
    java_free = [metric.name for metric in registry.java_free()]
    for _ in range(NUM_SHUFFLES):
        # A cycle through all images in random order: none keeps its own photo.
        cycle = order.permutation(len(images)).tolist()
        shuffled = {
            images[to]: captions[images[source]]
            for to, source in zip(cycle, cycle[1:] + cycle[:1], strict=True)
        }
        for name, value in scorer.score(shuffled, metrics=java_free).corpus.items():
            total[name] = total.get(name, 0.0) + value / NUM_SHUFFLES
    return total
