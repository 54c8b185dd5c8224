"""Word vectors, and the layer that gives every word its logit."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor, nn

from captionlab.decoders.fast.few_shapes import in_few_shapes
from captionlab.decoders.word_vectors import read_word_vectors
from captionlab.text import Vocabulary
from captionlab.types import PAD_ID

log = logging.getLogger(__name__)


class VocabularyLayer(nn.Linear):
    """Logits (M, V) from vectors (M, input_dim).

    Args:
        input_dim: size of its input vectors.
        embedding: of the words.
        tied: whether a word's logit is the product with its own vector; where the sizes differ, a
            linear map comes before. Press & Wolf 2017; Inan et al. 2017.
    """

    def __init__(self, input_dim: int, embedding: nn.Embedding, tied: bool) -> None:
        vocabulary_size, embedding_dim = embedding.weight.shape
        super().__init__(embedding_dim if tied else input_dim, vocabulary_size)
        self.project: nn.Module = nn.Identity()
        if tied:
            self.weight = embedding.weight
        if tied and input_dim != embedding_dim:
            self.project = nn.Linear(input_dim, embedding_dim, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = self.project(inputs)
        num_rows = len(inputs)
        if self.training:  # a search has few numbers of rows
            inputs = in_few_shapes(inputs)
        return super().forward(inputs)[:num_rows]


def init_embedding(
    embedding: nn.Embedding, frozen: bool, word_vectors: str | None, vocabulary: Vocabulary | None
) -> None:
    """Small random vectors, zeros for padding, and for known words those of a file.

    Args:
        embedding: modified.
        frozen: whether the vectors stay as they are.
        word_vectors: path of the file; None for random vectors alone.
        vocabulary: whose words the file is searched for.

    Raises:
        ValueError: if a file comes without a vocabulary.
    """
    nn.init.uniform_(embedding.weight.data[PAD_ID + 1 :], -0.1, 0.1)
    embedding.weight.requires_grad_(not frozen)
    if word_vectors is None:
        return
    if vocabulary is None:
        raise ValueError("word_vectors needs the vocabulary whose words the vectors are for.")
    words = vocabulary.to_list()
    ids, vectors = read_word_vectors(Path(word_vectors), words, embedding.embedding_dim)
    embedding.weight.data[ids] = vectors
    log.info("word vectors: %s has %d of %d words", word_vectors, len(ids), len(words))
