"""Tokenizers: a caption in, its words out."""

from __future__ import annotations

import re
import string
from abc import ABC, abstractmethod
from functools import lru_cache

from captionlab.errors import ConfigError

# The tokens that the official evaluation drops. Its names of brackets are in upper case and so
# never match the lower-cased tokens: brackets stay in the text as -lrb- and -rrb-.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
    + [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

_TOKEN = re.compile(
    r"""
    https?://\S+ | www\.\S+                      # addresses
  | </?[a-z!][^>]*>                              # markup
  | (?:[a-z]\.){2,}                              # u.s.
  | (?:mr|mrs|ms|dr|st|jr|sr|vs|etc|no|mt|ft)\.(?=\s+\S)
  | \d+[ \u00a0]\d+/\d+                          # 22 3/4
  | \d+(?:[.,:/-]\d+)*(?:st|nd|rd|th)?(?!\w|-[a-z])  # 1,000  2nd
  | n't\b | '(?:s|m|d|re|ve|ll)\b                # what contractions leave
  | [^\W_]+?(?=n't\b)                            # do in don't
  | [^\W_]+(?:[-&/][^\W_]+|'(?!(?:s|m|d|re|ve|ll)\b)[^\W_]+)*
  | \.{2,} | --+ | !+ | \?+ | ''
  | \S
    """,
    re.VERBOSE,
)
# Tokens that may reach across a space: markup, fractions, abbreviations followed by more text.
_REACHES_ON = re.compile(r"[</]|(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|no|mt|ft)\.$")
_SPLIT = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DROPPED = PUNCTUATION | {'"', "\u201c", "\u201d", "\u2018", "\u2019"}


class Tokenizer(ABC):
    """Splits a caption into words."""

    @abstractmethod
    def __call__(self, caption: str) -> list[str]:
        """The words of a caption, in order; none holds a space."""


class CleanedTokenizer(Tokenizer):
    """Lower case, no punctuation, no words with digits: as in course projects.

    Example:
        >>> CleanedTokenizer()("The dog's owner can't see 2 T-shirts (red).")
        ['the', 'dogs', 'owner', 'cant', 'see', 'tshirts', 'red']
    """

    def __call__(self, caption: str) -> list[str]:
        words = caption.lower().translate(_WITHOUT_PUNCTUATION).split()
        return [word for word in words if not any(letter.isdigit() for letter in word)]


class SpacyTokenizer(Tokenizer):
    """The words of spaCy's rules for a language, lower-cased, punctuation dropped.

    Args:
        language: spaCy's code of the language, such as `en`; nothing is downloaded for it.

    Raises:
        ConfigError: if spaCy is not installed or does not know the language.
    """

    def __init__(self, language: str) -> None:
        try:
            import spacy
        except ImportError as error:
            raise ConfigError(
                "tokenizer=spacy needs spaCy, which is not installed; run "
                "`python -m pip install spacy`, or use tokenizer=ptb."
            ) from error
        try:
            self._split = spacy.blank(language).tokenizer
        except ImportError as error:
            raise ConfigError(
                f"tokenizer.language={language!r} is unknown to spaCy; use a code such as 'en'."
            ) from error

    def __call__(self, caption: str) -> list[str]:
        words = self._split(caption.lower())
        return [word.text for word in words if not word.is_punct and not word.is_space]


class PTBTokenizer(Tokenizer):
    """Penn Treebank words, lower-cased, punctuation dropped, as in the official evaluation.

    Source: the rules of Stanford's PTBTokenizer 3.4.1 (`-lowerCase`) as far as captions need them,
    and pycocoevalcap's list of punctuation.

    Example:
        >>> PTBTokenizer()("The dog's owner can't see 2 T-shirts (red).")
        ['the', 'dog', "'s", 'owner', 'ca', "n't", 'see', '2', 't-shirts', '-lrb-', 'red', '-rrb-']
    """

    def __call__(self, caption: str) -> list[str]:
        text = caption.lower().replace("\u2019", "'")
        words: list[str] = []
        for chunk in text.split():
            chunk_words = _words_of_chunk(chunk)
            if chunk_words is None:
                return _words(text)
            words += chunk_words
        return words


@lru_cache(maxsize=2**17)  # COCO's captions are 7 million chunks, of which 60,000 differ
def _words_of_chunk(chunk: str) -> tuple[str, ...] | None:
    """Words of a chunk between spaces; None if they may depend on its neighbours."""
    return None if _REACHES_ON.search(chunk) else tuple(_words(chunk))


def _words(text: str) -> list[str]:
    words: list[str] = []
    for token in _TOKEN.findall(text):
        if token not in _DROPPED:
            words += _SPLIT.get(token) or _BRACKETS.get(token, token).split()
    return words
