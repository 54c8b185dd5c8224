"""Word vectors, and the layer that gives every word its logit."""

from __future__ import annotations

from torch import Tensor, nn

from captionlab.types import PAD_ID


class VocabularyLayer(nn.Linear):
    """Logits (..., V) from vectors (..., input_dim).

    Args:
        input_dim: size of what it reads.
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
        return super().forward(self.project(inputs))


def init_embedding(embedding: nn.Embedding, frozen: bool) -> None:
    """Small random vectors, zeros for padding; `frozen` ones are never trained."""
    nn.init.uniform_(embedding.weight.data[PAD_ID + 1 :], -0.1, 0.1)
    embedding.weight.requires_grad_(not frozen)
