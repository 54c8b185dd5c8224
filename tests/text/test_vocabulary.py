from __future__ import annotations

import pytest

from captionlab.text import Vocabulary
from captionlab.types import END_ID, PAD_ID, START_ID, UNKNOWN_ID

CAPTIONS = [["a", "red", "dog"], ["a", "dog"], ["a", "cat"]]


def test_words_are_ordered_by_count_then_spelling() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, min_count=1, max_size=None)
    assert vocabulary.to_list()[4:] == ["a", "dog", "cat", "red"]


def test_rare_words_are_unknown() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, min_count=2, max_size=None)
    assert vocabulary.encode(["a", "cat"]) == [START_ID, 4, UNKNOWN_ID, END_ID]
    assert vocabulary.coverage([["a", "cat"]]) == 0.5
    assert len(Vocabulary.build(CAPTIONS, min_count=1, max_size=5)) == 5


def test_ids_become_the_words_before_the_end() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, min_count=1, max_size=None)
    ids = [*vocabulary.encode(["a", "red", "dog"]), PAD_ID, 4]
    assert vocabulary.decode(ids) == "a red dog"


def test_special_words_in_captions_are_unknown() -> None:
    captions = [["<start>", "a", "dog", "<end>"]] * 3
    vocabulary = Vocabulary.build(captions, min_count=1, max_size=None)
    assert vocabulary.to_list()[4:] == ["a", "dog"]
    assert vocabulary.encode(captions[0]) == [START_ID, UNKNOWN_ID, 4, 5, UNKNOWN_ID, END_ID]
    assert vocabulary.coverage(captions) == 0.5


def test_a_vocabulary_survives_its_list() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, min_count=1, max_size=None)
    assert Vocabulary(vocabulary.to_list()).encode(["cat"]) == vocabulary.encode(["cat"])


@pytest.mark.parametrize("words", [["a"], ["<pad>", "<start>", "<end>", "<unk>", "a", "a"]])
def test_other_lists_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary(words)
