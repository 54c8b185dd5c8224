"""The words of a model, and their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated

from annotated_types import Ge

from captionlab.options import Count
from captionlab.types import END_ID, PAD_ID, START_ID, UNKNOWN_ID

_SPECIAL = {PAD_ID: "<pad>", START_ID: "<start>", END_ID: "<end>", UNKNOWN_ID: "<unk>"}
SPECIAL_WORDS = tuple(_SPECIAL.values())


class Vocabulary:
    """An immutable list of words; the first four are padding, start, end and unknown.

    Args:
        words: all words by id, the special ones included.

    Raises:
        ValueError: if the special words are not the first four, or a word comes twice.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        if self._words[: len(_SPECIAL)] != SPECIAL_WORDS:
            raise ValueError(f"a vocabulary begins with {', '.join(SPECIAL_WORDS)}.")
        if len(set(self._words)) != len(self._words):
            raise ValueError("a word comes twice in the vocabulary.")
        # A caption's own `<start>` or `<end>` is no word: some data sets have them written out.
        self._ids = {word: i for i, word in enumerate(self._words) if i not in _SPECIAL}

    @classmethod
    def build(
        cls,
        captions: Iterable[Sequence[str]],
        min_count: Count,
        max_size: Annotated[int, Ge(len(_SPECIAL) + 1)] | None,
    ) -> Vocabulary:
        """A vocabulary of the words of training captions, most frequent first, then by spelling.

        Args:
            captions: tokenised.
            min_count: a word that occurs fewer times is unknown.
            max_size: at most so many words, special ones included; null for no limit.
        """
        counts = Counter(chain.from_iterable(captions))
        for word in SPECIAL_WORDS:
            counts.pop(word, None)
        kept = [word for word, count in counts.items() if count >= min_count]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls([*SPECIAL_WORDS, *kept][:max_size])

    def __len__(self) -> int:
        return len(self._words)

    def encode(self, caption: Sequence[str]) -> list[int]:
        """Ids of a tokenised caption, with start and end; special words in it are unknown."""
        return [START_ID, *(self._ids.get(word, UNKNOWN_ID) for word in caption), END_ID]

    def decode(self, ids: Iterable[int]) -> str:
        """The words up to the end, joined by spaces, without padding and start."""
        words = []
        for i in ids:
            if i == END_ID:
                break
            if i not in (PAD_ID, START_ID):
                words.append(self._words[i])
        return " ".join(words)

    def coverage(self, captions: Iterable[Sequence[str]]) -> float:
        """Share of running words that are known, in [0, 1]; 1 if there are no words."""
        known = [word in self._ids for caption in captions for word in caption]
        return sum(known) / len(known) if known else 1.0

    def to_list(self) -> list[str]:
        """All words by id; `Vocabulary(words)` makes an equal vocabulary of them."""
        return list(self._words)
