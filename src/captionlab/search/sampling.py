"""Sampling: words drawn by their probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.gradients import without_gradients
from captionlab.options import Count, Natural, Positive
from captionlab.search.protocol import Search, forbid_special
from captionlab.seeding import derive_seed
from captionlab.types import END_ID, START_ID, Hypothesis, ImageFeatures


class SampleSearch(Search):
    """Draws each word from the model's distribution, its tail cut off.

    Each image has random numbers of its own, from the seed and its name: its captions depend
    neither on the batch that it is in nor on the process.

    Args:
        max_length: longest caption, in words.
        temperature: divides the logits; towards 0 this is greedy search.
        top_k: draw from the k likeliest words; None for no limit.
        top_p: draw from the fewest words that together have this probability; 1 for no limit.
        seed: of the drawing.

    Raises:
        ValueError: if `temperature` or `top_p` is not positive.

    Source:
        Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p, nucleus sampling).
    """

    def __init__(
        self,
        max_length: Count,
        temperature: Positive,
        top_k: Count | None,
        top_p: Annotated[float, Gt(0), Le(1)],
        seed: Natural,
    ) -> None:
        super().__init__(max_length)
        if temperature <= 0 or top_p <= 0:
            raise ValueError(
                f"temperature and top_p must be above 0, found {temperature} and {top_p}."
            )
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.seed = seed

    def __call__(
        self,
        decoder: Decoder,
        features: ImageFeatures,
        image_ids: Sequence[str] | None = None,
    ) -> list[Hypothesis]:
        return [drawn[0] for drawn in self.draw(decoder, features, 1, image_ids)]

    @without_gradients
    def draw(
        self,
        decoder: Decoder,
        features: ImageFeatures,
        num_samples: int,
        image_ids: Sequence[str] | None = None,
    ) -> list[list[Hypothesis]]:
        """Several captions of each of B images, drawn independently; see `Search`."""
        device = features.pooled.device
        names = range(len(features)) if image_ids is None else image_ids
        numbers = torch.cat([self._numbers(name, num_samples) for name in names], 1).to(device)
        rows = torch.arange(len(features), device=device).repeat_interleave(num_samples)
        state = decoder.select(decoder.start(features), rows)
        token = torch.full_like(rows, START_ID)
        done = torch.zeros_like(rows, dtype=torch.bool)
        total = torch.zeros(len(rows), device=device)
        written = []
        for of_step in numbers:
            log_probs, state = decoder.step(token, state)
            likely = self._truncate(forbid_special(log_probs) / self.temperature)
            drawn = draw_words(likely.softmax(-1), of_step)
            total += log_probs.gather(1, drawn.unsqueeze(-1)).squeeze(-1).masked_fill(done, 0.0)
            token = drawn.masked_fill(done, END_ID)
            written.append(token)
            done = done | (token == END_ID)
            if done.all():
                break
        captions = []
        for words, log_prob in zip(torch.stack(written, 1).tolist(), total.tolist(), strict=True):
            finished = END_ID in words
            caption = words[: words.index(END_ID)] if finished else words
            captions.append(Hypothesis(tuple(caption), log_prob, log_prob, finished))
        return [captions[i : i + num_samples] for i in range(0, len(captions), num_samples)]

    def _numbers(self, name: str | int, num_samples: int) -> Tensor:
        """An image's random numbers in [0, 1), float32 (`max_length`, `num_samples`)."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, name))
        return torch.rand(self.max_length, num_samples, generator=generator)

    def _truncate(self, logits: Tensor) -> Tensor:
        """Mask the words outside of top-k and top-p in logits (R, V)."""
        if self.top_k is not None and self.top_k < logits.shape[1]:
            smallest = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < smallest, -torch.inf)
        if self.top_p < 1:
            ordered, index = logits.sort(descending=True)
            share = ordered.softmax(-1)
            late = share.cumsum(-1) - share >= self.top_p  # the likelier words suffice
            logits = logits.masked_fill(late.scatter(1, index, late), -torch.inf)
        return logits


def draw_words(weights: Tensor, numbers: Tensor | None = None) -> Tensor:
    """A word id for each row, int64 (R,), by its share of the row's weights, float (R, V).

    One random number a row; `torch.multinomial` takes V, which costs as much as the decoder.

    Args:
        weights: not negative, with a positive sum in each row.
        numbers: random, in [0, 1), float32 (R,); None to draw them here.
    """
    below = weights.cumsum(-1)
    if numbers is None:
        numbers = torch.rand(len(below), device=below.device)
    at = numbers.unsqueeze(-1) * below[:, -1:]
    return torch.searchsorted(below, at, right=True).squeeze(-1).clamp_(max=below.shape[1] - 1)
