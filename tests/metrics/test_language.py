"""Diversity, and the words that are produced or missed."""

from __future__ import annotations

import pytest

from captionlab.metrics.diversity import collapse_warning, language, mutual_bleu
from captionlab.metrics.words import word_table


def test_language_by_hand() -> None:
    captions = [["a", "dog"], ["a", "dog"], ["a", "cat"], ["a", "dog"]]
    values = language(captions, training={("a", "dog")})
    assert values == {
        "distinct_captions": 0.5,
        "most_common": 0.75,
        "vocabulary_used": 3,
        "distinct_1": 3 / 8,
        "distinct_2": 0.5,
        "mean_length": 2,
        "unigram_entropy": pytest.approx(0.5 * 1 + 0.375 * 1.41504 + 0.125 * 3, abs=1e-4),
        "bigram_entropy": pytest.approx(0.811278, abs=1e-6),
        "novel_captions": 0.25,
    }
    assert "novel_captions" not in language([["a"]])
    assert language([[]])["unigram_entropy"] == 0


def test_a_collapse_is_told() -> None:
    assert collapse_warning(language([["a", "dog"]] * 9 + [["b"]] * 11), 20) is not None
    assert collapse_warning(language([[str(i)] for i in range(20)]), 20) is None


def test_equal_samples_have_an_mbleu_of_one() -> None:
    assert mutual_bleu({"a": ["a red dog runs far"] * 3}) == pytest.approx(1.0)
    assert mutual_bleu({"a": ["a red dog runs far", "two cats sleep here now"]}) < 0.01
    with pytest.raises(ValueError, match="same number"):
        mutual_bleu({"a": ["x", "y"], "b": ["x"]})


def test_words_by_hand() -> None:
    references = {
        "1": [["two", "dogs", "in", "red"], ["dogs", "play"]],
        "2": [["a", "red", "ball"], ["a", "ball"], ["a", "toy"]],
    }
    captions = {"1": ["a", "dog", "on", "grass"], "2": ["a", "red", "ball"]}
    rows = {(row.category, row.word): row for row in word_table(captions, references)}
    dog = rows["object", "dog"]
    assert (dog.agreed, dog.found, dog.produced, dog.supported) == (1, 1, 1, 1), "dogs are dog"
    assert rows["object", "grass"].precision == 0
    assert ("object", "toy") not in rows, "one of three references, and not produced"
    assert rows["colour", "red"].agreed == 1, "half of the references of the first agree"
    assert rows["colour", "red"].recall == 0
    assert rows["colour", "red"].precision == 1
    total = rows["object", "all"]
    assert (total.agreed, total.found, total.produced, total.supported) == (2, 2, 3, 2)
    assert rows["number", "two"].recall == 0
