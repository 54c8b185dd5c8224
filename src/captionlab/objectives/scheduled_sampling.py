"""Maximum likelihood under the model's own words."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.objectives.protocol import Objective, cross_entropy
from captionlab.search.protocol import forbid_special
from captionlab.search.sampling import draw_words
from captionlab.types import END_ID, PAD_ID, CaptionBatch

_STEEPNESS = 12.0  # of the sigmoid: flat at both ends


class ScheduledSampling(Objective):
    """Cross-entropy of the true words, where some of those that are read are the model's own.

    Each word that is read is the true one by a share that falls over the training, else one drawn
    from what the model predicted there; the end is not drawn, since the true caption goes on. No
    gradient flows through the drawing.

    Args:
        decay: `linear`, `exponential` or `inverse_sigmoid`: how the share goes from the first to
            the last.
        first_share: of true words, in [0, 1]; at 1 this is teacher forcing.
        last_share: of true words at the end of the training, in [0, `first_share`]; at 0 the model
            runs free.

    Raises:
        ValueError: if the decay is unknown or a share out of its range.

    Source:
        Bengio et al. 2015, sec. 2.4, each curve over the share of the training's steps done.
    """

    def __init__(
        self,
        decay: Literal["linear", "exponential", "inverse_sigmoid"],
        first_share: float,
        last_share: float,
    ) -> None:
        if decay not in ("linear", "exponential", "inverse_sigmoid"):
            raise ValueError(
                f"decay must be linear, exponential or inverse_sigmoid, found {decay}."
            )
        if not 0 <= last_share <= first_share <= 1 or (decay == "exponential" and not last_share):
            raise ValueError(
                "shares must be in [0, 1], the last at most the first, and positive where the "
                f"decay is exponential, found {first_share} and {last_share}."
            )
        self.decay = decay
        self.first_share = first_share
        self.last_share = last_share

    def share(self, progress: float) -> float:
        """The share of true words at a point of the training, in [0, 1]."""
        if self.decay == "exponential":
            return self.first_share * math.pow(self.last_share / self.first_share, progress)
        done = progress
        if self.decay == "inverse_sigmoid":
            edge = 1 / (1 + math.exp(_STEEPNESS / 2))
            done = (1 / (1 + math.exp(_STEEPNESS * (0.5 - progress))) - edge) / (1 - 2 * edge)
        return self.first_share + (self.last_share - self.first_share) * done

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        share = self.share(progress)
        if share == 1:
            loss = cross_entropy(decoder(batch.features, batch.tokens))
        else:
            loss = _sampled(decoder, batch, share)
        return loss, {"true_words": share}


def _sampled(decoder: Decoder, batch: CaptionBatch, share: float) -> Tensor:
    """Cross-entropy of the true words after words of which a `share` are true."""
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
