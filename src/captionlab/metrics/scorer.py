"""The caption metrics of a set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from captionlab.errors import ConfigError, DataError
from captionlab.metrics import registry
from captionlab.metrics.java import JavaError, stanford_tokenize
from captionlab.metrics.protocol import (
    Metric,
    Scores,
    TokenizedCaptions,
    TokenizedReferences,
    TokenizerName,
)
from captionlab.text import PTBTokenizer


class CaptionScorer:
    """Registered metrics of captions of the same images.

    The references are tokenised and counted at the first score and kept.

    Where Java does not work, the scores that need it are in `Scores.missing` with the reason, and
    so are all scores on official tokens if these cannot be made.

    Args:
        references: image id to its captions as people wrote them, at least one. Every image
            needs a caption to be scored.
        metrics: names of those to compute; None for all that need no Java.
        tokenizer: `stanford` is the official one and starts Java for each score; `python` needs
            no Java and agrees on nearly all captions, which is enough to select models by.
        fallback: score on Python's tokens where Stanford's cannot be made; these scores bear
            names of their own, which end in `registry.PYTHON_SUFFIX`.
        jar_folder: holds the jars of metrics that need some.

    Attributes:
        image_ids: of the references, in their order.

    Raises:
        ConfigError: if a metric is unknown, meets another tokenizer than its own, or needs jars
            and no folder is given.
        DataError: if there is no image, or one without captions.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[str]],
        metrics: Sequence[str] | None = None,
        tokenizer: TokenizerName = "python",
        fallback: bool = False,
        jar_folder: Path | None = None,
    ) -> None:
        chosen = registry.java_free() if metrics is None else registry.find_metrics(metrics)
        _check_options(chosen, tokenizer, jar_folder)
        _check_references(references)
        self.image_ids = list(references)
        self._metrics = {metric.name: metric(jar_folder) for metric in chosen}
        self._tokenizer = tokenizer
        self._fallback = fallback
        self._raw_references = {image_id: list(refs) for image_id, refs in references.items()}
        self._tokenized: dict[TokenizerName, _References] = {}
        self._people: Scores | None = None

    def score(self, captions: Mapping[str, str], metrics: Sequence[str] | None = None) -> Scores:
        """Score captions.

        Scoring the same captions again, given to other images, is cheap.

        Args:
            captions: image id to caption, for every image of the references and no other.
            metrics: names of some of the metric's own; None for all.

        Returns:
            The scores, images in the order of the references.

        Raises:
            DataError: if an image has no caption or a caption no image.
        """
        self.check_known(captions)
        absent = [image_id for image_id in self.image_ids if image_id not in captions]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(self.image_ids)} images have no caption to score, "
                f"{absent[0]!r} is the first; a score over a part would be another number. "
                "Write a caption for each, or score that part alone: --subset, or in Python "
                "references of these images."
            )
        texts = [captions[image_id] for image_id in self.image_ids]
        chosen = [self._metrics[name] for name in (self._metrics if metrics is None else metrics)]
        try:
            return self._score(self._references(self._tokenizer).tokenize(texts), chosen)
        except JavaError as error:
            missing = {score.name: str(error) for metric in chosen for score in metric.scores}
        if not self._fallback:
            return Scores({}, {}, {}, self.image_ids, missing)
        chosen = [metric for metric in chosen if metric.tokenizer in (None, "python")]
        scores = self._score(self._references("python").tokenize(texts), chosen)
        return with_suffix(scores, registry.PYTHON_SUFFIX, missing)

    def score_people(self) -> Scores | None:
        """The human row: each image's first caption against its others; scored once.

        People are scored on one reference fewer than models, which costs them some points.

        Returns:
            Its scores, without those of metrics that need jars, which take long; None where an
            image has a single caption, or Java does not work.
        """
        if self._people is not None:
            return self._people
        try:
            texts = self._references(self._tokenizer).tokenized.texts
        except JavaError:
            return None
        if any(len(captions) < 2 for captions in texts.values()):
            return None
        others = TokenizedReferences({image: captions[1:] for image, captions in texts.items()})
        first = TokenizedCaptions([captions[0] for captions in texts.values()], others)
        people = self._score(first, [m for m in self._metrics.values() if not m.jars])
        self._people = None if people.missing else people
        return people

    def _score(self, captions: TokenizedCaptions, metrics: Iterable[Metric]) -> Scores:
        scores = Scores({}, {}, {}, self.image_ids, {})
        for metric in metrics:
            try:
                values = metric.score(captions)
            except JavaError as error:
                scores.missing.update({score.name: str(error) for score in metric.scores})
                continue
            scores.corpus.update(values.corpus)
            scores.per_image.update(values.per_image)
            if metric.has_statistics:
                scores.statistics[metric.name] = values.statistics
        return scores

    def _references(self, tokenizer: TokenizerName) -> _References:
        if tokenizer not in self._tokenized:
            tokenize = stanford_tokenize if tokenizer == "stanford" else tokenize_in_python
            self._tokenized[tokenizer] = _References(self._raw_references, tokenize)
        return self._tokenized[tokenizer]

    def check_known(self, image_ids: Iterable[str]) -> None:
        """Raise DataError for an image that has no references."""
        for image_id in image_ids:
            if image_id not in self._raw_references:
                raise DataError(
                    f"the image {image_id!r} has a caption to score but no references; there are "
                    f"references of {len(self.image_ids)} images, such as {self.image_ids[0]!r}. "
                    "Score captions with the references of their own split."
                )


class _References:
    """The references under one tokenizer, and the captions that were tokenised last.

    Attributes:
        tokenized: the references.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[str]],
        tokenize: Callable[[Sequence[str]], list[str]],
    ) -> None:
        self._tokenize = tokenize
        self._known: dict[str, str] = {}
        # All at once, like the official evaluation: Stanford's lexer looks across line ends.
        texts = iter(tokenize([text for captions in references.values() for text in captions]))
        self.tokenized = TokenizedReferences(
            {i: [next(texts) for _ in captions] for i, captions in references.items()}
        )

    def tokenize(self, captions: Sequence[str]) -> TokenizedCaptions:
        """Tokenise one caption per image; those of the last call are known, in any order."""
        if not all(caption in self._known for caption in captions):
            self._known = dict(zip(captions, self._tokenize(captions), strict=True))
        return TokenizedCaptions([self._known[caption] for caption in captions], self.tokenized)


def tokenize_in_python(captions: Sequence[str]) -> list[str]:
    """Captions as words joined by spaces, like Stanford's tokenizer on nearly all of them."""
    tokenizer = PTBTokenizer()
    return [" ".join(tokenizer(caption)) for caption in captions]


def with_suffix(scores: Scores, suffix: str, missing: Mapping[str, str]) -> Scores:
    """The same scores under names of their own.

    Args:
        scores: not official ones.
        suffix: one of `registry.SUFFIXES`.
        missing: scores that there are none of, with the reason.
    """
    return Scores(
        registry.with_suffix(scores.corpus, suffix),
        registry.with_suffix(scores.per_image, suffix),
        registry.with_suffix(scores.statistics, suffix),
        scores.image_ids,
        dict(missing),
    )


def _check_options(
    metrics: Sequence[type[Metric]], tokenizer: str, jar_folder: Path | None
) -> None:
    if tokenizer not in get_args(TokenizerName):
        choices = ", ".join(map(repr, get_args(TokenizerName)))
        raise ConfigError(f"there is no tokenizer {tokenizer!r}; choose from {choices}.")
    for metric in metrics:
        if metric.tokenizer not in (None, tokenizer):
            raise ConfigError(
                f"{metric.name!r} is defined on the tokens of {metric.tokenizer!r}, found the "
                f"tokenizer {tokenizer!r}; use the former, or leave the metric out."
            )
        if metric.jars and jar_folder is None:
            raise ConfigError(
                f"{metric.name!r} needs {' and '.join(metric.jars)}, found no folder of jars; "
                "give one, or leave the metric out."
            )


def _check_references(references: Mapping[str, Sequence[str]]) -> None:
    empty = next((image_id for image_id, captions in references.items() if not captions), None)
    if not references or empty is not None:
        raise DataError(
            f"{f'the image {empty!r} has' if references else 'there are'} no reference captions; "
            "scores need at least one for every image. Check the split and the caption file."
        )
