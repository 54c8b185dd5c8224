"""Text: captions to words, words to ids and back."""

from captionlab.text.mirror import mirror_words
from captionlab.text.tokenizers import (
    CleanedTokenizer,
    PTBTokenizer,
    SpacyTokenizer,
    Tokenizer,
)
from captionlab.text.vocabulary import SPECIAL_WORDS, Vocabulary

__all__ = [
    "SPECIAL_WORDS",
    "CleanedTokenizer",
    "PTBTokenizer",
    "SpacyTokenizer",
    "Tokenizer",
    "Vocabulary",
    "mirror_words",
]
