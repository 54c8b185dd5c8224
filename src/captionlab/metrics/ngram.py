"""BLEU, ROUGE-L and CIDEr-D over tokenised captions, equal to pycocoevalcap's to the last bit.

Everything that depends on the references alone is computed once. To be equal, sums run in the
order in which n-grams first appear, and words are split as there: BLEU and CIDEr-D at any white
space, ROUGE-L at single spaces.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

_ORDERS = 4
_TINY, _SMALL = 1e-15, 1e-9
_BETA = 1.2
_SIGMA = 6.0

_NGram = tuple[str, ...]


class NGramScorer:
    """Scores captions against fixed references.

    Args:
        references: image id to its tokenised references, words joined by spaces.

    Raises:
        ValueError: if there are no images, or an image without references.

    Source:
        Papineni et al. 2002 (BLEU, closest reference length); Lin 2004 (ROUGE-L, beta 1.2);
        Vedantam et al. 2015, sec. 4 (CIDEr-D, sigma 6, document frequencies of these references).
    """

    metrics = ("bleu", "rouge_l", "cider_d")

    def __init__(self, references: Mapping[str, Sequence[str]]) -> None:
        if not references:
            raise ValueError("there are no references to score against.")
        for image, captions in references.items():
            if not captions:
                raise ValueError(f"image {image} has no references.")
        self.image_ids = list(references)
        counts = {image: [_count(c) for c in captions] for image, captions in references.items()}
        self._bleu = [_BleuReferences(counts[image]) for image in self.image_ids]
        self._rouge = [[c.split(" ") for c in references[image]] for image in self.image_ids]
        self._inverse_frequency = _InverseFrequency(list(counts.values()))
        self._cider = [
            _CiderReferences(counts[image], self._inverse_frequency) for image in self.image_ids
        ]

    def score(
        self, captions: Mapping[str, str], metrics: Sequence[str] = metrics
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Score one tokenised caption per image.

        Args:
            captions: image id to caption, for exactly the images of the references.
            metrics: some of `bleu`, `rouge_l`, `cider_d`.

        Returns:
            Corpus scores and one score per image in the order of `image_ids`, both by name.
        """
        ordered = [captions[image] for image in self.image_ids]
        corpus: dict[str, float] = {}
        per_image: dict[str, list[float]] = {}
        counted = [_count(caption) for caption in ordered]
        if "bleu" in metrics:
            self._score_bleu(counted, corpus, per_image)
        if "rouge_l" in metrics:
            values = [
                _rouge_l(caption.split(" "), references)
                for caption, references in zip(ordered, self._rouge, strict=True)
            ]
            corpus["rouge_l"], per_image["rouge_l"] = float(np.mean(np.array(values))), values
        if "cider_d" in metrics:
            values = [
                references.score(count, self._inverse_frequency)
                for count, references in zip(counted, self._cider, strict=True)
            ]
            corpus["cider_d"], per_image["cider_d"] = float(np.mean(np.array(values))), values
        return corpus, per_image

    def _score_bleu(
        self,
        counted: list[Counter[_NGram]],
        corpus: dict[str, float],
        per_image: dict[str, list[float]],
    ) -> None:
        length = reference_length = 0
        correct, guessed = [0] * _ORDERS, [0] * _ORDERS
        images: list[list[float]] = [[] for _ in range(_ORDERS)]
        for counts, references in zip(counted, self._bleu, strict=True):
            found = references.match(counts)
            length += found.length
            reference_length += found.reference_length
            for k in range(_ORDERS):
                correct[k] += found.correct[k]
                guessed[k] += found.guessed[k]
            one = _bleu(found.correct, found.guessed, found.length, found.reference_length)
            for k in range(_ORDERS):
                images[k].append(one[k])
        whole = _bleu(correct, guessed, length, reference_length)
        for k in range(_ORDERS):
            corpus[f"bleu_{k + 1}"] = whole[k]
            per_image[f"bleu_{k + 1}"] = images[k]


def _count(caption: str) -> Counter[_NGram]:
    """Counts of all n-grams up to order 4, shorter first, each in order of first appearance."""
    words = caption.split()
    counts: Counter[_NGram] = Counter()
    for order in range(1, _ORDERS + 1):
        counts.update(zip(*(words[i:] for i in range(order)), strict=False))
    return counts


def _num_words(counts: Counter[_NGram]) -> int:
    return sum(count for ngram, count in counts.items() if len(ngram) == 1)


class _Match:
    """What BLEU needs of one caption."""

    def __init__(self, length: int, reference_length: int) -> None:
        self.length = length
        self.reference_length = reference_length
        self.guessed = [max(0, length - k) for k in range(_ORDERS)]
        self.correct = [0] * _ORDERS


class _BleuReferences:
    def __init__(self, references: list[Counter[_NGram]]) -> None:
        self.lengths = [_num_words(counts) for counts in references]
        self.most: dict[_NGram, int] = {}
        for counts in references:
            for ngram, count in counts.items():
                self.most[ngram] = max(self.most.get(ngram, 0), count)

    def match(self, counts: Counter[_NGram]) -> _Match:
        length = _num_words(counts)
        closest = min((abs(candidate - length), candidate) for candidate in self.lengths)[1]
        found = _Match(length, closest)
        for ngram, count in counts.items():
            if ngram in self.most:
                found.correct[len(ngram) - 1] += min(self.most[ngram], count)
        return found


def _bleu(correct: list[int], guessed: list[int], length: int, reference: int) -> list[float]:
    product, scores = 1.0, []
    for k in range(_ORDERS):
        product *= (float(correct[k]) + _TINY) / (float(guessed[k]) + _SMALL)
        scores.append(product ** (1.0 / (k + 1)))
    ratio = (length + _TINY) / (reference + _SMALL)
    if ratio < 1:
        scores = [score * math.exp(1 - 1 / ratio) for score in scores]
    return scores


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
    """Its length, by one addition per word: Hyyrö 2004; bits of `positions` are caption words."""
    row = 0
    for word in words:
        either = row | positions.get(word, 0)
        row = either & (either ^ (either - (row << 1 | 1)))
    return row.bit_count()


class _InverseFrequency:
    """log(images / images whose references have the n-gram), as pycocoevalcap computes it."""

    def __init__(self, references: list[list[Counter[_NGram]]]) -> None:
        frequency: Counter[_NGram] = Counter()
        for counts in references:
            frequency.update({ngram for count in counts for ngram in count})
        num_images = float(np.log(float(len(references))))
        logarithms = {n: float(np.log(float(n))) for n in set(frequency.values())}
        self._known = {ngram: num_images - logarithms[n] for ngram, n in frequency.items()}
        self._unknown = num_images - float(np.log(1.0))

    def weigh(self, counts: Counter[_NGram]) -> tuple[list[tuple[_NGram, float]], list[float], int]:
        """TF-IDF values in order, the norm of each n-gram order, and the number of bigrams."""
        values = [
            (ngram, float(count) * self._known.get(ngram, self._unknown))
            for ngram, count in counts.items()
        ]
        squares = [0.0] * _ORDERS
        for ngram, value in values:
            squares[len(ngram) - 1] += value * value
        # The length that CIDEr-D compares is the number of bigrams.
        length = sum(count for ngram, count in counts.items() if len(ngram) == 2)
        return values, [math.sqrt(square) for square in squares], length


class _CiderReferences:
    def __init__(self, references: list[Counter[_NGram]], frequency: _InverseFrequency) -> None:
        weighed = [frequency.weigh(counts) for counts in references]
        self.norms = [norms for _, norms, _ in weighed]
        self.lengths = [length for _, _, length in weighed]
        self.where: dict[_NGram, list[tuple[int, float]]] = {}  # references that have an n-gram
        for i, (values, _, _) in enumerate(weighed):
            for ngram, value in values:
                self.where.setdefault(ngram, []).append((i, value))

    def score(self, counts: Counter[_NGram], frequency: _InverseFrequency) -> float:
        values, norms, length = frequency.weigh(counts)
        products = [[0.0] * _ORDERS for _ in self.lengths]
        for ngram, value in values:
            for i, other in self.where.get(ngram, ()):
                products[i][len(ngram) - 1] += min(value, other) * other
        total = [0.0] * _ORDERS
        for product, other_norms, other_length in zip(
            products, self.norms, self.lengths, strict=True
        ):
            delta = float(length - other_length)
            penalty = math.e ** (-(delta**2) / (2 * _SIGMA**2))
            for k in range(_ORDERS):
                similarity = product[k]
                if norms[k] != 0 and other_norms[k] != 0:
                    similarity /= norms[k] * other_norms[k]
                total[k] += similarity * penalty
        mean = (total[0] + total[1] + total[2] + total[3]) / _ORDERS
        return mean / len(self.lengths) * 10.0
