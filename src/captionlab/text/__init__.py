"""Text: captions to words, words to ids and back."""

from captionlab.text.tokenizers import PTBTokenizer, Tokenizer
from captionlab.text.vocabulary import Vocabulary

__all__ = ["PTBTokenizer", "Tokenizer", "Vocabulary"]
