"""Greedy search: the likeliest word at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captionlab.decoders import Decoder
from captionlab.gradients import without_gradients
from captionlab.search.protocol import Search, forbid_special
from captionlab.types import END_ID, START_ID, Hypothesis, ImageFeatures


class GreedySearch(Search):
    """Writes the likeliest word at every step until the end token or `max_length` words.

    Args:
        max_length: longest caption, in words.
    """

    @without_gradients
    def __call__(
        self,
        decoder: Decoder,
        features: ImageFeatures,
        image_ids: Sequence[str] | None = None,
    ) -> list[Hypothesis]:
        state = decoder.start(features)
        token = torch.full((len(features),), START_ID, device=features.pooled.device)
        done = torch.zeros_like(token, dtype=torch.bool)
        total = torch.zeros(len(token), device=token.device)
        written = []
        for t in range(self.max_length + 1):
            log_probs, state = decoder.step(token, state)
            best, token = forbid_special(log_probs).max(-1)
            ends = token == END_ID
            if t == self.max_length:  # only the end may still be written
                best, token = best.where(ends, 0.0), token.where(ends, END_ID)
            total += best.masked_fill(done, 0.0)
            token = token.masked_fill(done, END_ID)
            written.append(token)
            finished = done | ends
            done = finished
            if done.all():
                break
        columns = torch.stack(written, dim=1).tolist()
        captions = []
        for words, log_prob, is_done in zip(
            columns, total.tolist(), finished.tolist(), strict=True
        ):
            caption = words[: words.index(END_ID)] if END_ID in words else words
            captions.append(Hypothesis(tuple(caption), log_prob, log_prob, is_done))
        return captions
