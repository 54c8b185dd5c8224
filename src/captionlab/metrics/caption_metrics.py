"""The caption metrics of a set of images, on one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from captionlab.errors import ConfigError, DataError
from captionlab.metrics.java import JavaError, Meteor, stanford_tokenize
from captionlab.metrics.ngram import NGramScorer
from captionlab.metrics.spice import score_spice
from captionlab.text import PTBTokenizer
from captionlab.types import Scores

MetricName = Literal["bleu", "rouge_l", "cider_d", "meteor"]
TokenizerName = Literal["stanford", "python"]
_T = TypeVar("_T")


def score_names(metric: MetricName) -> list[str]:
    """The names a metric has in `Scores`: `bleu_1` to `bleu_4` for BLEU, else its own."""
    return [f"bleu_{order}" for order in (1, 2, 3, 4)] if metric == "bleu" else [metric]


def with_suffix(named: Mapping[str, _T]) -> dict[str, _T]:
    """The same under the names of scores on Python's tokens: `cider_d_pyptb` and so on."""
    return {f"{name}_pyptb": value for name, value in named.items()}


class CaptionMetrics(Metric):
    """BLEU-1 to 4, ROUGE-L, CIDEr-D and METEOR, once over all images.

    The references are tokenised and counted at the first score and kept. METEOR's Java process
    starts with the metric and loads while the caller goes on. The state is the
    captions alone, by image, so that any number of processes, with any share of the images and
    with images seen twice, gives the scores of one. Where an image got several captions the first
    counts, in the order of the processes.

    Where Java does not work, METEOR is in `Scores.missing` with the reason, and so are the scores
    on official tokens if these cannot be made.

    Args:
        references: image id to its captions as people wrote them, at least one. Every image
            needs a caption to be scored.
        metrics: which to compute. METEOR needs the tokenizer `stanford`.
        tokenizer: `stanford` is the official one and starts Java for each score; `python` needs
            no Java and agrees on nearly all captions, which is enough to select models by.
        fallback: score on Python's tokens where Stanford's cannot be made; these scores bear
            names of their own, `cider_d_pyptb` and so on.
        meteor: a process to share with other metrics; None for one of its own.

    Raises:
        ConfigError: if a metric is unknown or METEOR meets another tokenizer than its own.
        DataError: if there is no image, or one without captions.

    Example:
        >>> metrics = CaptionMetrics({"a": ["A red ball."], "b": ["Two dogs run.", "Dogs."]})
        >>> metrics.update(["a", "b"], ["a red ball", "two cats run"])
        >>> round(metrics.compute().corpus["bleu_1"], 3)
        0.833
    """

    full_state_update = False
    image_indices: list[Tensor]
    lengths: list[Tensor]
    utf8: list[Tensor]

    def __init__(
        self,
        references: Mapping[str, Sequence[str]],
        metrics: Sequence[MetricName] = ("bleu", "rouge_l", "cider_d"),
        tokenizer: TokenizerName = "python",
        fallback: bool = False,
        meteor: Meteor | None = None,
    ) -> None:
        super().__init__()
        _check_options(metrics, tokenizer)
        _check_references(references)
        self._metrics = tuple(metrics)
        self._tokenizer = tokenizer
        self._fallback = fallback
        self._raw_references = {image_id: list(refs) for image_id, refs in references.items()}
        self._image_ids = list(references)
        self._index = {image_id: i for i, image_id in enumerate(self._image_ids)}
        self._meteor = (meteor or Meteor()) if "meteor" in metrics else None
        self._tokenized: dict[TokenizerName, _TokenizedReferences] = {}
        for name in ("image_indices", "lengths", "utf8"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget the captions; the references stay."""
        super().reset()
        # A process without captions must still take part in the gather: gloo aborts on a list
        # without a tensor.
        self._add([], [], b"")

    def update(self, image_ids: Sequence[str], captions: Sequence[str]) -> None:
        """Add captions of images.

        Args:
            image_ids: B ids, as in the references.
            captions: B texts, as the model writes them.

        Raises:
            DataError: if an image has no references.
        """
        self._check_known(image_ids)
        encoded = [caption.encode("utf-8", "replace") for caption in captions]
        indices = [self._index[i] for i, _ in zip(image_ids, encoded, strict=True)]
        self._add(indices, [len(text) for text in encoded], b"".join(encoded))

    def compute(self) -> Scores:
        """Score the captions of all processes, as `score` does."""
        utf8 = dim_zero_cat(self.utf8).cpu().numpy().tobytes()
        captions: dict[str, str] = {}
        end = 0
        for index, length in zip(
            dim_zero_cat(self.image_indices).tolist(),
            dim_zero_cat(self.lengths).tolist(),
            strict=True,
        ):
            start, end = end, end + length
            captions.setdefault(self._image_ids[index], utf8[start:end].decode())
        return self.score(captions)

    def score(
        self, captions: Mapping[str, str], metrics: Sequence[MetricName] | None = None
    ) -> Scores:
        """Score captions without touching the state.

        Scoring the same captions again, given to other images, is cheap.

        Args:
            captions: image id to caption, for every image of the references and no other.
            metrics: some of the metric's own; None for all.

        Returns:
            The scores, images in the order of the references.

        Raises:
            DataError: if an image has no caption or a caption no image.
        """
        self._check_known(captions)
        absent = [image_id for image_id in self._image_ids if image_id not in captions]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(self._image_ids)} images have no caption to score, "
                f"{absent[0]!r} is the first; a score over a part would be another number. "
                "Write a caption for each, or make the metric with the references of that part."
            )
        texts = [captions[image_id] for image_id in self._image_ids]
        wanted = self._metrics if metrics is None else metrics
        try:
            references = self._references(self._tokenizer)
            tokenized = dict(zip(self._image_ids, references.tokenize(texts), strict=True))
        except JavaError as error:
            missing = {name: str(error) for metric in wanted for name in score_names(metric)}
            if not self._fallback:
                return Scores({}, {}, {}, self._image_ids, missing)
            references = self._references("python")
            tokenized = dict(zip(self._image_ids, references.tokenize(texts), strict=True))
            corpus, per_image, statistics = references.scorer.score(tokenized, wanted)
            return Scores(
                with_suffix(corpus),
                with_suffix(per_image),
                with_suffix({"bleu": statistics} if statistics else {}),
                self._image_ids,
                missing,
            )
        return self._score(references.scorer, references.texts, tokenized, wanted)

    def score_people(self) -> Scores | None:
        """The human row: each image's first caption against its others.

        People are scored on one reference fewer than models, which costs them some points.

        Returns:
            Its scores; None where an image has a single caption, or Java does not work.
        """
        try:
            texts = self._references(self._tokenizer).texts
        except JavaError:
            return None
        if any(len(captions) < 2 for captions in texts.values()):
            return None
        others = {image_id: captions[1:] for image_id, captions in texts.items()}
        first = {image_id: captions[0] for image_id, captions in texts.items()}
        return self._score(NGramScorer(others), others, first, self._metrics)

    def spice(self, captions: Mapping[str, str], folder: Path) -> tuple[float, list[float]]:
        """SPICE of captions, corpus and per image in the order of the references.

        Raises:
            JavaError: if Java or the jars in `folder` are missing, or SPICE fails.
        """
        references = self._references("stanford")
        texts = references.tokenize([captions[image] for image in self._image_ids])
        return score_spice(references.texts, dict(zip(self._image_ids, texts, strict=True)), folder)

    def self_cider(self, samples: Mapping[str, Sequence[str]]) -> float:
        """How much several captions of one image differ, in [0, 1]: mean over the images.

        Args:
            samples: image id to two captions or more.

        Source:
            Wang & Chan 2019, under the document frequencies of the references.
        """
        references = self._references("python")
        tokenized = [_tokenize_in_python(captions) for captions in samples.values()]
        return fmean(references.scorer.self_cider(captions) for captions in tokenized)

    def _score(
        self,
        scorer: NGramScorer,
        references: Mapping[str, Sequence[str]],
        captions: Mapping[str, str],
        metrics: Sequence[MetricName],
    ) -> Scores:
        """Score tokenised captions against tokenised references."""
        corpus, per_image, bleu = scorer.score(captions, metrics)
        statistics = {"bleu": bleu} if bleu else {}
        missing: dict[str, str] = {}
        if "meteor" in metrics:
            assert self._meteor is not None, "the metric was made without METEOR"
            try:
                corpus["meteor"], per_image["meteor"], statistics["meteor"] = self._meteor.score(
                    references, captions
                )
            except JavaError as error:
                missing["meteor"] = str(error)
        return Scores(corpus, per_image, statistics, self._image_ids, missing)

    def _references(self, tokenizer: TokenizerName) -> _TokenizedReferences:
        if tokenizer not in self._tokenized:
            tokenize = stanford_tokenize if tokenizer == "stanford" else _tokenize_in_python
            self._tokenized[tokenizer] = _TokenizedReferences(self._raw_references, tokenize)
        return self._tokenized[tokenizer]

    def _add(self, indices: list[int], lengths: list[int], utf8: bytes) -> None:
        self.image_indices.append(torch.tensor(indices, dtype=torch.int64, device=self.device))
        self.lengths.append(torch.tensor(lengths, dtype=torch.int64, device=self.device))
        self.utf8.append(torch.tensor(list(utf8), dtype=torch.uint8, device=self.device))

    def _check_known(self, image_ids: Iterable[str]) -> None:
        for image_id in image_ids:
            if image_id not in self._index:
                raise DataError(
                    f"the image {image_id!r} has a caption to score but no references; there are "
                    f"references of {len(self._index)} images, such as {self._image_ids[0]!r}. "
                    "Score captions with the references of their own split."
                )


class _TokenizedReferences:
    """The references under one tokenizer, with what is counted on them.

    Attributes:
        texts: image id to tokenised captions.
        scorer: holds their n-grams.
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
        self.texts = {i: [next(texts) for _ in captions] for i, captions in references.items()}
        self.scorer = NGramScorer(self.texts)

    def tokenize(self, captions: Sequence[str]) -> list[str]:
        """Tokenise captions; those of the last call are known, in whatever order they come."""
        if not all(caption in self._known for caption in captions):
            self._known = dict(zip(captions, self._tokenize(captions), strict=True))
        return [self._known[caption] for caption in captions]


def _tokenize_in_python(captions: Sequence[str]) -> list[str]:
    tokenizer = PTBTokenizer()
    return [" ".join(tokenizer(caption)) for caption in captions]


def _check_options(metrics: Sequence[str], tokenizer: str) -> None:
    for name, value, allowed in [
        *(("metric", metric, get_args(MetricName)) for metric in metrics),
        ("tokenizer", tokenizer, get_args(TokenizerName)),
    ]:
        if value not in allowed:
            raise ConfigError(
                f"there is no {name} {value!r}; choose from {', '.join(map(repr, allowed))}."
            )
    if "meteor" in metrics and tokenizer != "stanford":
        raise ConfigError(
            f"METEOR is defined on the tokens of 'stanford', but the tokenizer is {tokenizer!r}. "
            "Use tokenizer='stanford', or leave 'meteor' out of the metrics."
        )


def _check_references(references: Mapping[str, Sequence[str]]) -> None:
    empty = next((image_id for image_id, captions in references.items() if not captions), None)
    if not references or empty is not None:
        raise DataError(
            f"{f'the image {empty!r} has' if references else 'there are'} no reference captions; "
            "scores need at least one for every image. Check the split and the caption file."
        )
