"""What a caption may not be, whatever its probability."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captionlab.search.protocol import forbid_special
from captionlab.types import END_ID


class CaptionRules:
    """Bars the words that would break a rule; a caption that obeys keeps its probability.

    Args:
        min_length: fewest words of a finished caption.
        block_ngrams: no n-gram of so many words comes twice; None for no limit.
        forbidden_endings: word ids that no finished caption ends with.
    """

    def __init__(
        self, min_length: int, block_ngrams: int | None, forbidden_endings: Sequence[int]
    ) -> None:
        self.min_length = min_length
        self.block_ngrams = block_ngrams
        self.forbidden_endings = tuple(forbidden_endings)

    def bar(self, log_probs: Tensor, written: Tensor) -> None:
        """Set what may not come next to minus infinity.

        Args:
            log_probs: of the next word, float (R, V); modified.
            written: the words so far, int64 (R, t).
        """
        forbid_special(log_probs)
        num_written = written.shape[1]
        if num_written < self.min_length:
            log_probs[:, END_ID] = -torch.inf
        elif self.forbidden_endings and num_written:
            forbidden = torch.tensor(self.forbidden_endings, device=written.device)
            log_probs[:, END_ID].masked_fill_(torch.isin(written[:, -1], forbidden), -torch.inf)
        n = self.block_ngrams
        if n is not None and num_written >= n:
            ngrams = written.unfold(1, n, 1)  # (R, t-n+1, n)
            last = written[:, num_written - n + 1 :]
            begun = (ngrams[..., :-1] == last.unsqueeze(1)).all(-1)
            penalty = torch.zeros_like(begun, dtype=log_probs.dtype).masked_fill_(begun, -torch.inf)
            log_probs.scatter_add_(1, ngrams[..., -1], penalty)
