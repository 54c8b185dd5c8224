"""Python's tokens against Stanford's."""

from __future__ import annotations

import random
import sys

import pytest

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.errors import ConfigError
from captionlab.metrics.java import stanford_tokenize
from captionlab.text import CleanedTokenizer, PTBTokenizer, SpacyTokenizer, Tokenizer
from captionlab.text.tokenizers import _words

CAPTIONS = [
    "A man's dog can't swim .",
    "Two men (in red) ride 4-wheelers at 10:30, 1,000 feet up...",
    'A sign says "STOP!!!" in the U.S. -- twice',
    "I'm gonna say cannot , won't & they'll go",
    "kids in T-shirts and/or shorts?? yes; no: maybe",
    "the 2nd runner , #22 , passes number 3.5",
    "a black-and-white dog 's toy",
    "",
    ".",
]


def test_captions_become_stanfords_words() -> None:
    tokenizer = PTBTokenizer()
    assert [" ".join(tokenizer(caption)) for caption in CAPTIONS] == stanford_tokenize(CAPTIONS)


def test_the_embedded_data_agrees_with_stanford(shapes: CaptionCorpus) -> None:
    captions = [caption for image in shapes.images for caption in image.captions]
    tokenizer = PTBTokenizer()
    assert [" ".join(tokenizer(caption)) for caption in captions] == stanford_tokenize(captions)


def test_words_are_those_of_the_whole_caption_at_once() -> None:
    rng = random.Random(0)
    pieces = [*" .,'-<>/&#:!?()\u00a0\x1c\u2028\u2019", "mr.", "no.", "22 3/4", "don't", "u.s."]
    pieces += ["http://x", "<b>", "cannot", "a", "dog", "2nd", "10:30", "...", "İ", "é"]
    for _ in range(3000):
        caption = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        whole = _words(caption.lower().replace("\u2019", "'"))
        assert PTBTokenizer()(caption) == whole, caption


def test_no_word_holds_a_space() -> None:
    words = PTBTokenizer()("22 3/4 cups , 1\u00a01/2 <in a hat>")
    assert words == ["22", "3/4", "cups", "1", "1/2", "<in", "a", "hat>"]


def test_spacy_splits_as_its_rules_do() -> None:
    pytest.importorskip("spacy")
    tokenizer = SpacyTokenizer("en")
    assert tokenizer("A man's dog, can't  swim!") == ["a", "man", "'s", "dog", "ca", "n't", "swim"]
    with pytest.raises(ConfigError, match="language='klingon'"):
        SpacyTokenizer("klingon")


def test_without_spacy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ConfigError, match="pip install spacy"):
        SpacyTokenizer("en")


@pytest.mark.parametrize("tokenizer", [PTBTokenizer(), CleanedTokenizer()])
@pytest.mark.parametrize("caption", ["a\x00b", "\u2028", "()[]{}", "日本語 ok", "a" * 10_000])
def test_any_text_becomes_words_without_spaces(tokenizer: Tokenizer, caption: str) -> None:
    assert all(word and " " not in word for word in tokenizer(caption))
