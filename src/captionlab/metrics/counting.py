"""N-grams of captions and references as numbers, counted and matched for all images together.

Everything that depends on the references alone is computed once. To be equal to pycocoevalcap to
the last bit, sums run in the order in which n-grams first appear (`np.bincount` adds in the order
of its input), and words are split as there, at any white space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDERS = 4  # n-grams of 1 to 4 words

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class NGramReferences:
    """The n-grams of tokenised references, counted once.

    Args:
        references: image id to its references, words joined by spaces.

    Attributes:
        orders: the n-grams of 1 to 4 words.
        lengths: of each reference, in words; int64 (M,) for M references, image by image.
        num_references: of each image, int64 (B,).
        first: each image's first reference, int64 (B,).

    Raises:
        ValueError: if there are no images, or an image without references.
    """

    def __init__(self, references: Mapping[str, Sequence[str]]) -> None:
        if not references:
            raise ValueError("there are no references to score against.")
        for image, captions in references.items():
            if not captions:
                raise ValueError(f"image {image} has no references.")
        self._word_ids: dict[str, int] = {}
        words = Words.of([c for texts in references.values() for c in texts], self._word_ids)
        self.lengths = words.lengths
        self.num_references = np.array([len(texts) for texts in references.values()])
        self.first = np.cumsum(self.num_references) - self.num_references
        image_of_reference = np.repeat(np.arange(len(references)), self.num_references)
        self._index = {image: i for i, image in enumerate(references)}
        self.orders: list[Order] = []
        gram: Ints | None = None
        for k in range(ORDERS):
            place, code = words.codes(k, gram, len(self._word_ids))
            codes, compact = np.unique(code, return_inverse=True)
            counted = _count(words.caption[place], compact)
            self.orders.append(Order(codes, counted, image_of_reference, len(references)))
            gram = words.spread(place, compact)

    def count(self, captions: Sequence[str], images: Sequence[str] | None = None) -> NGramCounts:
        """Count and match the n-grams of tokenised captions.

        Args:
            captions: words joined by spaces.
            images: whose references each caption is matched with, any number of times; None for
                all images in their order, a caption each.
        """
        image = np.arange(len(captions))
        if images is not None:
            image = np.array([self._index[name] for name in images])
        words = Words.of(captions, dict(self._word_ids))
        return NGramCounts(self, self._match(words), words.lengths, self._pair(image))

    def _pair(self, image: Ints) -> Pairs:
        """Every caption with every reference of its image, given each caption's image."""
        sizes = self.num_references[image]
        begins = np.cumsum(sizes) - sizes
        caption = np.repeat(np.arange(len(image)), sizes)
        reference = np.arange(len(caption)) + (self.first[image] - begins)[caption]
        return Pairs(image, begins, caption, reference)

    def _match(self, words: Words) -> list[Matched]:
        """The n-grams of captions by order, each with its number among those of the references."""
        matched: list[Matched] = []
        gram: Ints | None = None  # among the captions' own
        known: Ints | None = None  # among the references', -1 where they lack it
        num_words = len(self._word_ids)
        for k, order in enumerate(self.orders):
            place, code = words.codes(k, gram, int(words.ids.max(initial=0)) + 1)
            _, compact = np.unique(code, return_inverse=True)
            _, theirs = words.codes(k, known, num_words)
            absent = words.ids[place + k] >= num_words
            if known is not None:
                absent |= known[place] < 0
            number = order.find(np.where(absent, -1, theirs))
            gram, known = words.spread(place, compact), words.spread(place, number)
            counted = _count(words.caption[place], compact)
            matched.append(Matched(*counted, number[counted.first]))
        return matched


@dataclass(frozen=True)
class NGramCounts:
    """Captions' n-grams, matched with the references of their images.

    Attributes:
        references: all of them.
        matched: n-grams of 1 to 4 words.
        lengths: of each caption, in words.
        pairs: of captions and references.
    """

    references: NGramReferences
    matched: list[Matched]
    lengths: Ints
    pairs: Pairs


class Pairs(NamedTuple):
    """Captions with the references of their images, caption by caption."""

    image: Ints  # of a caption
    begins: Ints  # a caption's first pair
    caption: Ints  # of a pair
    reference: Ints


class PaddedWords(NamedTuple):
    """The words of texts, split at single spaces.

    Attributes:
        ids: (texts, longest), -1 where a text has ended.
        lengths: of each text, at least 1.
        word_ids: of every word.
    """

    ids: Ints
    lengths: Ints
    word_ids: dict[str, int]

    @classmethod
    def of(cls, texts: Iterable[str], word_ids: dict[str, int]) -> PaddedWords:
        """Split texts; new words are added to `word_ids`."""
        split = [text.split(" ") for text in texts]
        lengths = np.array([len(words) for words in split])
        ids = np.full((len(split), lengths.max()), -1)
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        ids[inside] = [
            word_ids.setdefault(word, len(word_ids)) for words in split for word in words
        ]
        return cls(ids, lengths, word_ids)


class Words(NamedTuple):
    """The words of captions in a row: their ids, and the caption of each."""

    ids: Ints
    caption: Ints
    lengths: Ints
    remaining: Ints  # words of the caption from here on

    @classmethod
    def of(cls, captions: Sequence[str], word_ids: dict[str, int]) -> Words:
        """Split captions; new words are added to `word_ids`."""
        split = [caption.split() for caption in captions]
        ids = [word_ids.setdefault(word, len(word_ids)) for words in split for word in words]
        lengths = np.array([len(words) for words in split], dtype=np.int64)
        caption = np.repeat(np.arange(len(split)), lengths)
        remaining = np.cumsum(lengths)[caption] - np.arange(len(ids))
        return cls(np.array(ids, dtype=np.int64), caption, lengths, remaining)

    def codes(self, k: int, gram: Ints | None, num_words: int) -> tuple[Ints, Ints]:
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

    def spread(self, place: Ints, values: Ints) -> Ints:
        """Values at places, as one for each word."""
        full = np.full(len(self.ids), -1, dtype=np.int64)
        full[place] = values
        return full


class Counted(NamedTuple):
    """Distinct n-grams of captions, caption by caption, in order of first appearance."""

    caption: Ints
    gram: Ints
    times: Ints
    first: Ints  # where it first appears, among all n-grams


class Matched(NamedTuple):
    """`Counted` n-grams, each with its number among the references' (-1 where they lack it)."""

    caption: Ints
    gram: Ints
    times: Ints
    first: Ints
    number: Ints


def _count(caption: Ints, gram: Ints) -> Counted:
    base = int(gram.max(initial=0)) + 1
    key, first, count = np.unique(caption * base + gram, return_index=True, return_counts=True)
    order = np.argsort(first)
    return Counted(key[order] // base, key[order] % base, count[order], first[order])


class Order:
    """All n-grams of one order in the references.

    Args:
        codes: of the distinct n-grams, ascending.
        counted: the n-grams of each reference, numbered by their place in `codes`.
        image: of each reference.
        num_images: that have references.

    Attributes:
        reference: of each n-gram of each reference, sorted by image and n-gram.
        value: its TF-IDF, in the same order.
        norm: of each reference's TF-IDF.
        most: for each n-gram of each image, its largest count in a reference.
    """

    def __init__(self, codes: Ints, counted: Counted, image: Ints, num_images: int) -> None:
        self._codes = codes
        key = image[counted.caption] * len(codes) + counted.gram
        order = np.argsort(key, kind="stable")
        self._keys, self._begins = np.unique(key[order], return_index=True)
        self._sizes = np.diff(np.append(self._begins, len(order)))
        # log(images / images whose references have the n-gram); logarithms of single numbers, as
        # pycocoevalcap takes them, since those of arrays may differ in the last bit.
        frequency = np.bincount(self._keys % max(1, len(codes)), minlength=len(codes))
        known, place = np.unique(frequency, return_inverse=True)
        logarithms = np.array([float(np.log(float(n))) for n in known.tolist()])
        whole = float(np.log(float(num_images)))
        # The last is of an n-gram that no reference has: number -1.
        self._idf = np.append(whole - logarithms[place], whole - float(np.log(1.0)))
        value = counted.times * self._idf[counted.gram]
        self.norm = np.sqrt(np.bincount(counted.caption, value * value, len(image)))
        self.reference, self.value = counted.caption[order], value[order]
        counts = counted.times[order]
        self.most = np.maximum.reduceat(counts, self._begins) if len(counts) else counts

    def find(self, codes: Ints) -> Ints:
        """Numbers of n-grams by code, -1 for those that no reference has."""
        return _find(self._codes, codes)

    def weigh(self, matched: Matched) -> Floats:
        """TF-IDF of each n-gram of the captions."""
        weights: Floats = matched.times * self._idf[matched.number]
        return weights

    def locate(self, image: Ints, number: Ints) -> tuple[Ints, Ints]:
        """Match n-grams with the references of their image.

        Args:
            image: of each n-gram, int64 (M,).
            number: of each n-gram among `codes`, int64 (M,); -1 for those that no reference has.

        Returns:
            Rows of the n-grams that a reference of their image has, int64 (M',), and the index of
            each in `most`.
        """
        at = _find(self._keys, np.where(number < 0, -1, image * len(self._codes) + number))
        rows = np.flatnonzero(at >= 0)
        return rows, at[rows]

    def expand(self, rows: Ints, at: Ints) -> tuple[Ints, Ints]:
        """Repeat each row once for each reference that has its n-gram.

        Args:
            rows: from `locate`, int64 (M',).
            at: from `locate`, int64 (M',).

        Returns:
            The repeated rows, and the index of each in `reference` and `value`.
        """
        sizes = self._sizes[at]
        ends = np.cumsum(sizes)
        inside = np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)
        return np.repeat(rows, sizes), np.repeat(self._begins[at], sizes) + inside


def _find(ordered: Ints, wanted: Ints) -> Ints:
    """Places in a sorted array, -1 for what is not there."""
    if not len(ordered):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where(ordered[at] == wanted, at, -1)
