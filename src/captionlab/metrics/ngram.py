"""BLEU, ROUGE-L and CIDEr-D over tokenised captions, equal to pycocoevalcap's to the last bit.

Everything that depends on the references alone is computed once; n-grams are numbers, counted and
matched for all images together. To be equal, sums run in the order in which n-grams first appear
(`np.bincount` adds in the order of its input), and words are split as there: BLEU and CIDEr-D at
any white space, ROUGE-L at single spaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ORDERS = 4
_TINY, _SMALL = 1e-15, 1e-9
_BETA = 1.2
_SIGMA = 6.0

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


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
        self._rouge = [[c.split(" ") for c in references[image]] for image in self.image_ids]
        self._word_ids: dict[str, int] = {}
        words = _Words.of([c for each in references.values() for c in each], self._word_ids)
        self._lengths = words.lengths
        self._num_references = np.array([len(each) for each in references.values()])
        self._first = np.cumsum(self._num_references) - self._num_references  # of an image
        self._image = np.repeat(np.arange(len(references)), self._num_references)  # of a reference
        self._index = {image: i for i, image in enumerate(self.image_ids)}
        self._orders: list[_Order] = []
        gram: _Ints | None = None
        for k in range(_ORDERS):
            place, code = words.codes(k, gram, len(self._word_ids))
            codes, compact = np.unique(code, return_inverse=True)
            self._orders.append(
                _Order(codes, _count(words.caption[place], compact), self._image, len(references))
            )
            gram = words.spread(place, compact)

    def score(
        self, captions: Mapping[str, str], metrics: Sequence[str] = metrics
    ) -> tuple[dict[str, float], dict[str, list[float]], list[list[float]]]:
        """Score one tokenised caption per image.

        Args:
            captions: image id to caption, for exactly the images of the references.
            metrics: some of `bleu`, `rouge_l`, `cider_d`.

        Returns:
            Corpus scores, and one score per image in the order of `image_ids`, both by name; and
            what BLEU sums over images, one row per image: n-grams found in a reference and
            n-grams written, each for orders 1 to 4, length, closest reference length.
        """
        ordered = [captions[image] for image in self.image_ids]
        corpus: dict[str, float] = {}
        per_image: dict[str, list[float]] = {}
        statistics: list[list[float]] = []
        words = _Words.of(ordered, dict(self._word_ids))
        counted = self._match(words) if "bleu" in metrics or "cider_d" in metrics else []
        pairs = self._pair(np.arange(len(ordered)))
        if "bleu" in metrics:
            statistics = self._bleu_statistics(counted, words.lengths, pairs)
            whole = bleu([sum(column) for column in zip(*statistics, strict=True)])
            images = [bleu(row) for row in statistics]
            for k in range(_ORDERS):
                corpus[f"bleu_{k + 1}"] = whole[k]
                per_image[f"bleu_{k + 1}"] = [one[k] for one in images]
        if "rouge_l" in metrics:
            values = [
                _rouge_l(caption.split(" "), references)
                for caption, references in zip(ordered, self._rouge, strict=True)
            ]
            corpus["rouge_l"], per_image["rouge_l"] = float(np.mean(np.array(values))), values
        if "cider_d" in metrics:
            values = self._cider_d(counted, words.lengths, pairs)
            corpus["cider_d"], per_image["cider_d"] = float(np.mean(np.array(values))), values
        return corpus, per_image, statistics

    def rate(
        self, images: Sequence[str], captions: Sequence[str]
    ) -> tuple[list[float], list[list[float]]]:
        """CIDEr-D and BLEU's statistics of tokenised captions, each against its own image.

        An image may come any number of times, or not at all; document frequencies are those of
        all references.

        Args:
            images: an id of the references for each caption.
            captions: as many.

        Returns:
            CIDEr-D of each caption; and what `bleu` takes, one row for each.
        """
        words = _Words.of(captions, dict(self._word_ids))
        pairs = self._pair(np.array([self._index[image] for image in images]))
        counted = self._match(words)
        return (
            self._cider_d(counted, words.lengths, pairs),
            self._bleu_statistics(counted, words.lengths, pairs),
        )

    def _pair(self, image: _Ints) -> _Pairs:
        """Every caption with every reference of its image, given each caption's image."""
        sizes = self._num_references[image]
        begins = np.cumsum(sizes) - sizes
        caption = np.repeat(np.arange(len(image)), sizes)
        reference = np.arange(len(caption)) + (self._first[image] - begins)[caption]
        return _Pairs(image, begins, caption, reference)

    def self_cider(self, captions: Sequence[str]) -> float:
        """How much tokenised captions of one image differ: 0 if they are equal, at most 1.

        The kernel of the captions is their CIDEr (the cosine of TF-IDF, without CIDEr-D's
        clipping and length penalty) under these references' document frequencies.

        Raises:
            ValueError: for fewer than two captions.

        Source:
            Wang & Chan 2019, sec. 4: -log_m(r), r the largest singular value's share of the sum.
        """
        if len(captions) < 2:
            raise ValueError(f"diversity needs two captions at least, found {len(captions)}.")
        kernel = np.zeros((len(captions), len(captions)))
        for found, order in zip(
            self._match(_Words.of(captions, dict(self._word_ids))), self._orders, strict=True
        ):
            weighed = np.zeros((len(captions), int(found.gram.max(initial=0)) + 1))
            weighed[found.caption, found.gram] = order.weigh(found)
            norms = np.linalg.norm(weighed, axis=1, keepdims=True)
            unit = weighed / np.where(norms > 0, norms, 1)
            kernel += unit @ unit.T / _ORDERS
        equal = np.array(
            [[a == b for b in captions] for a in captions]
        )  # short ones have no 4-gram
        kernel[equal] = 1.0
        singular = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0.0, None))
        share = float(singular.max() / singular.sum())
        return abs(math.log(share)) / math.log(len(captions))

    def _match(self, words: _Words) -> list[_Matched]:
        """The n-grams of captions by order, each with its number among those of the references."""
        found: list[_Matched] = []
        gram: _Ints | None = None  # among the captions' own
        known: _Ints | None = None  # among the references', -1 where they lack it
        num_words = len(self._word_ids)
        for k, order in enumerate(self._orders):
            place, code = words.codes(k, gram, int(words.ids.max(initial=0)) + 1)
            _, compact = np.unique(code, return_inverse=True)
            _, theirs = words.codes(k, known, num_words)
            absent = words.ids[place + k] >= num_words
            if known is not None:
                absent |= known[place] < 0
            number = order.find(np.where(absent, -1, theirs))
            gram, known = words.spread(place, compact), words.spread(place, number)
            counted = _count(words.caption[place], compact)
            found.append(_Matched(*counted, number[counted.first]))
        return found

    def _bleu_statistics(
        self, counted: list[_Matched], lengths: _Ints, pairs: _Pairs
    ) -> list[list[float]]:
        columns = []
        for found, order in zip(counted, self._orders, strict=True):
            rows, at = order.locate(pairs.image[found.caption], found.number)
            matches = np.minimum(found.times[rows], order.most[at])
            columns.append(np.bincount(found.caption[rows], matches, len(lengths)).astype(int))
        columns += [np.maximum(0, lengths - k) for k in range(_ORDERS)]
        # The closest length, the shorter of two as close.
        theirs = self._lengths[pairs.reference]
        far = 1 + int(max(theirs.max(), lengths.max()))
        distance = np.abs(theirs - lengths[pairs.caption])
        closest = np.minimum.reduceat(distance * far + theirs, pairs.begins) % far
        rows_by_image: list[list[float]] = np.stack([*columns, lengths, closest], 1).tolist()
        return rows_by_image

    def _cider_d(self, counted: list[_Matched], lengths: _Ints, pairs: _Pairs) -> list[float]:
        # The length that CIDEr-D compares is the number of bigrams.
        theirs = self._lengths[pairs.reference]
        delta = np.maximum(0, lengths - 1)[pairs.caption] - np.maximum(0, theirs - 1)
        differences, place = np.unique(delta, return_inverse=True)
        penalties = [math.e ** (-(float(d) ** 2) / (2 * _SIGMA**2)) for d in differences.tolist()]
        penalty = np.array(penalties)[place]
        total = np.zeros(len(lengths))
        to_pair = pairs.begins - self._first[pairs.image]
        for found, order in zip(counted, self._orders, strict=True):
            value = order.weigh(found)
            norm = np.sqrt(np.bincount(found.caption, value * value, len(lengths)))[pairs.caption]
            rows, at = order.locate(pairs.image[found.caption], found.number)
            rows, at = order.expand(rows, at)
            known = order.value[at]
            products = np.minimum(value[rows], known) * known
            pair = order.reference[at] + to_pair[found.caption[rows]]
            similarity = np.bincount(pair, products, len(pairs.caption))
            similarity = similarity.astype(np.float64)  # without products it counts
            norms = norm * order.norm[pairs.reference]
            np.divide(similarity, norms, out=similarity, where=norms != 0)
            total = total + np.bincount(pairs.caption, similarity * penalty, len(lengths))
        sizes = self._num_references[pairs.image]
        values: list[float] = (total / _ORDERS / sizes * 10.0).tolist()
        return values


class _Pairs(NamedTuple):
    """Captions with the references of their images, caption by caption."""

    image: _Ints  # of a caption
    begins: _Ints  # a caption's first pair
    caption: _Ints  # of a pair
    reference: _Ints


class _Words(NamedTuple):
    """The words of captions in a row: their ids, and the caption of each."""

    ids: _Ints
    caption: _Ints
    lengths: _Ints
    remaining: _Ints  # words of the caption from here on

    @classmethod
    def of(cls, captions: Sequence[str], word_ids: dict[str, int]) -> _Words:
        """Split captions; new words are added to `word_ids`."""
        split = [caption.split() for caption in captions]
        ids = [word_ids.setdefault(word, len(word_ids)) for words in split for word in words]
        lengths = np.array([len(words) for words in split], dtype=np.int64)
        caption = np.repeat(np.arange(len(split)), lengths)
        remaining = np.cumsum(lengths)[caption] - np.arange(len(ids))
        return cls(np.array(ids, dtype=np.int64), caption, lengths, remaining)

    def codes(self, k: int, gram: _Ints | None, num_words: int) -> tuple[_Ints, _Ints]:
        """Where an n-gram of k + 1 words begins, and a number for it.

        Args:
            k: order less one.
            gram: at each word, the number of the n-gram of k words that begins there.
            num_words: more than any word id.
        """
        place = np.flatnonzero(self.remaining > k)
        if gram is None:
            return place, self.ids[place]
        return place, gram[place] * num_words + self.ids[place + k]

    def spread(self, place: _Ints, values: _Ints) -> _Ints:
        """Values at places, as one for each word."""
        full = np.full(len(self.ids), -1, dtype=np.int64)
        full[place] = values
        return full


class _Counted(NamedTuple):
    """Distinct n-grams of captions, caption by caption, in order of first appearance."""

    caption: _Ints
    gram: _Ints
    times: _Ints
    first: _Ints  # where it first appears, among all n-grams


class _Matched(NamedTuple):
    """The same, with each one's number among the references' (-1 where they lack it)."""

    caption: _Ints
    gram: _Ints
    times: _Ints
    first: _Ints
    number: _Ints


def _count(caption: _Ints, gram: _Ints) -> _Counted:
    base = int(gram.max(initial=0)) + 1
    key, first, count = np.unique(caption * base + gram, return_index=True, return_counts=True)
    order = np.argsort(first)
    return _Counted(key[order] // base, key[order] % base, count[order], first[order])


class _Order:
    """All n-grams of one order in the references.

    Attributes:
        reference: of each n-gram of each reference, sorted by image and n-gram.
        value: its TF-IDF, in the same order.
        norm: of each reference's TF-IDF.
        most: for each n-gram of each image, its largest count in a reference.
    """

    def __init__(self, codes: _Ints, found: _Counted, image: _Ints, num_images: int) -> None:
        self._codes = codes
        self._key = image[found.caption] * len(codes) + found.gram
        order = np.argsort(self._key, kind="stable")
        self._keys, self._begins = np.unique(self._key[order], return_index=True)
        self._sizes = np.diff(np.append(self._begins, len(order)))
        # log(images / images whose references have the n-gram); logarithms of single numbers, as
        # pycocoevalcap takes them, since those of arrays may differ in the last bit.
        frequency = np.bincount(self._keys % max(1, len(codes)), minlength=len(codes))
        known, place = np.unique(frequency, return_inverse=True)
        logarithms = np.array([float(np.log(float(n))) for n in known.tolist()])
        whole = float(np.log(float(num_images)))
        # The last is of an n-gram that no reference has: number -1.
        self._idf = np.append(whole - logarithms[place], whole - float(np.log(1.0)))
        value = found.times * self._idf[found.gram]
        self.norm = np.sqrt(np.bincount(found.caption, value * value, len(image)))
        self.reference, self.value = found.caption[order], value[order]
        counts = found.times[order]
        self.most = np.maximum.reduceat(counts, self._begins) if len(counts) else counts

    def find(self, codes: _Ints) -> _Ints:
        """Numbers of n-grams by code, -1 for those that no reference has."""
        return _find(self._codes, codes)

    def weigh(self, found: _Matched) -> _Floats:
        """TF-IDF."""
        weighed: _Floats = found.times * self._idf[found.number]
        return weighed

    def locate(self, image: _Ints, number: _Ints) -> tuple[_Ints, _Ints]:
        """Which n-grams a reference of their image has, and where that is in `most`."""
        at = _find(self._keys, np.where(number < 0, -1, image * len(self._codes) + number))
        rows = np.flatnonzero(at >= 0)
        return rows, at[rows]

    def expand(self, rows: _Ints, at: _Ints) -> tuple[_Ints, _Ints]:
        """Each row once for each reference that has its n-gram, and where that is in `value`."""
        sizes = self._sizes[at]
        ends = np.cumsum(sizes)
        inside = np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)
        return np.repeat(rows, sizes), np.repeat(self._begins[at], sizes) + inside


def _find(ordered: _Ints, wanted: _Ints) -> _Ints:
    """Places in a sorted array, -1 for what is not there."""
    if not len(ordered):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where(ordered[at] == wanted, at, -1)


def bleu(statistics: Sequence[float]) -> list[float]:
    """BLEU-1 to 4 of one image's statistics, or of their sums."""
    correct, guessed = statistics[:_ORDERS], statistics[_ORDERS : 2 * _ORDERS]
    length, reference = statistics[2 * _ORDERS :]
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
