"""How likely a model holds captions that it did not write."""

from __future__ import annotations

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.types import PAD_ID, ImageFeatures


@torch.inference_mode()
def caption_log_probabilities(
    decoder: Decoder, features: ImageFeatures, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability of given captions.

    Args:
        decoder: in evaluation mode.
        features: of B images.
        tokens: int64 (B, N, T), start .. end, then padding, as in `CaptionBatch`.

    Returns:
        The natural logarithm of each caption's probability, its end token counted, float32
        (B, N), 0 where a row is all padding; and the number of tokens predicted, int64 (B, N).
    """
    num_images, num_captions, length = tokens.shape
    rows = torch.arange(num_images, device=tokens.device).repeat_interleave(num_captions)
    state = decoder.select(decoder.start(features), rows)
    flat = tokens.flatten(0, 1)
    total = torch.zeros(len(flat), device=tokens.device)
    for t in range(length - 1):
        log_probs, state = decoder.step(flat[:, t], state)
        following = flat[:, t + 1]
        chosen = log_probs.gather(1, following.unsqueeze(-1)).squeeze(-1)
        total += chosen.masked_fill(following == PAD_ID, 0.0)
    counts = (flat[:, 1:] != PAD_ID).sum(1)
    shape = (num_images, num_captions)
    return total.view(shape), counts.view(shape)
