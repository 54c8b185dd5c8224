"""Scheduled sampling: teacher forcing in which some input words are drawn from the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.objectives.protocol import Mean, Objective, cross_entropy, num_targets
from captionlab.search.protocol import forbid_special
from captionlab.search.sampling import draw_words
from captionlab.types import END_ID, PAD_ID, CaptionBatch

Share = Annotated[float, Ge(0), Le(1)]
_STEEPNESS = 12.0  # of the sigmoid: flat at both ends


class ScheduledSampling(Objective):
    """Cross-entropy of the true words, where some of the input words are the model's own.

    Each input word is the true one with a probability that falls over the training, the share of
    true words. Otherwise it is drawn from the model's prediction at that place, the end token
    excepted, since the true caption continues. No gradient flows through the drawing.

    Args:
        decay: how the share falls from the first to the last.
        first_share: of true words, in [0, 1]; at 1 this is teacher forcing.
        last_share: of true words at the end of the training, in [0, `first_share`]; at 0 all words
            are the model's own.

    Raises:
        ValueError: if the last share is above the first, or 0 with an exponential decay.

    Source:
        Bengio et al. 2015, sec. 2.4, each curve over the share of the training's steps done.
    """

    countable = True

    def __init__(
        self,
        decay: Literal["linear", "exponential", "inverse_sigmoid"],
        first_share: Share,
        last_share: Share,
    ) -> None:
        options = {"decay": decay, "first_share": first_share, "last_share": last_share}
        problem = self.conflict(options)
        if problem is not None:
            raise ValueError(problem)
        self.decay = decay
        self.first_share = first_share
        self.last_share = last_share

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        """What is wrong with options that are each in range; None if nothing is."""
        first, last = options["first_share"], options["last_share"]
        if last > first:
            return f"last_share must be at most first_share={first}, found {last}."
        if options["decay"] == "exponential" and not last:
            return f"last_share must be above 0 where the decay is exponential, found {last}."
        return None

    def share(self, progress: float) -> float:
        """The share of true words at a point of the training, in [0, 1]."""
        if self.decay == "exponential":
            return self.first_share * math.pow(self.last_share / self.first_share, progress)
        way = progress  # from the first share to the last
        if self.decay == "inverse_sigmoid":
            edge = 1 / (1 + math.exp(_STEEPNESS / 2))
            way = (1 / (1 + math.exp(_STEEPNESS * (0.5 - progress))) - edge) / (1 - 2 * edge)
        return self.first_share + (self.last_share - self.first_share) * way

    def counts(self, tokens: Tensor) -> list[int]:
        return [num_targets(tokens)]

    def means(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[list[Mean], dict[str, Mean]]:
        share = self.share(progress)
        if share == 1:
            loss = cross_entropy(decoder(batch.features, batch.tokens))
        else:
            loss = _sampled(decoder, batch, share)
        return [Mean(loss, num_targets(batch.tokens))], {"true_words": Mean(share, 1)}


def _sampled(decoder: Decoder, batch: CaptionBatch, share: float) -> Tensor:
    """Cross-entropy of the true words after input words of which a `share` are true."""
    num_images, num_captions, num_tokens = batch.tokens.shape
    true = batch.tokens.flatten(0, 1)  # (R, T)
    rows = torch.arange(num_images, device=true.device).repeat_interleave(num_captions)
    state = decoder.select(decoder.start(batch.features), rows)
    token = true[:, 0]
    total = torch.zeros((), device=true.device)
    for t in range(num_tokens - 1):
        log_probs, state = decoder.step(token, state)
        target = true[:, t + 1]
        chosen = log_probs.gather(1, target.unsqueeze(-1)).squeeze(-1)
        total = total - chosen.masked_fill(target == PAD_ID, 0.0).sum()
        allowed = forbid_special(log_probs.detach().clone())
        allowed[:, END_ID] = -torch.inf
        drawn = draw_words(allowed.softmax(-1))
        is_true = torch.rand(len(true), device=true.device) < share
        token = torch.where(is_true, target, drawn)
    return total / (true[:, 1:] != PAD_ID).sum()
