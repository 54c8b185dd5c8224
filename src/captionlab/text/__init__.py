"""Text: captions to words, words to ids and back."""

from captionlab.text.tokenizers import PTBTokenizer, Tokenizer
from captionlab.text.vocabulary import Vocabulary
from captionlab.text.word_vectors import read_word_vectors, word_vector_dim

__all__ = ["PTBTokenizer", "Tokenizer", "Vocabulary", "read_word_vectors", "word_vector_dim"]
