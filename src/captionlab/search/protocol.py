"""What every search offers, and what it may never write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.gradients import without_gradients
from captionlab.options import Count
from captionlab.types import PAD_ID, START_ID, UNKNOWN_ID, Hypothesis, ImageFeatures


class Search(ABC):
    """Finds a good caption for each image.

    Args:
        max_length: longest caption, in words.
    """

    def __init__(self, max_length: Count) -> None:
        self.max_length = max_length

    @property
    def max_captions(self) -> int:
        """The most captions of one image that `n_best` gives."""
        return 1

    @abstractmethod
    @without_gradients
    def __call__(
        self,
        decoder: Decoder,
        features: ImageFeatures,
        image_ids: Sequence[str] | None = None,
    ) -> list[Hypothesis]:
        """The best caption of each of B images; deterministic, and always a caption.

        The decoder's own training mode is used: call `eval` first.

        Args:
            decoder: of any kind.
            features: of the images.
            image_ids: B names, for a search that draws: what it draws for an image depends on its
                name, not on the batch. None for their places in the batch.
        """

    def n_best(self, decoder: Decoder, features: ImageFeatures) -> list[list[Hypothesis]]:
        """Up to `max_captions` captions of each of B images, best first, no two alike."""
        return [[caption] for caption in self(decoder, features)]


def forbid_special(log_probs: Tensor) -> Tensor:
    """Set padding, start and unknown word in (R, V) log-probabilities to minus infinity, in place.

    An unknown word can only lose: no reference is scored as having one.
    """
    for word in (PAD_ID, START_ID, UNKNOWN_ID):  # a list of them would be copied to a card
        log_probs[:, word] = -torch.inf
    return log_probs
