"""Beam search, batched over images and beams."""

from __future__ import annotations

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.search.protocol import Search, forbid_special
from captionlab.types import END_ID, START_ID, Hypothesis, ImageFeatures


class BeamSearch(Search):
    """Keeps the `beam_size` likeliest beginnings of each image's caption.

    A caption of n words is ranked by log p / (n + 1) ** length_penalty, the end token counted. An
    image is left as soon as none of its beginnings can still beat its best caption; the captions
    are those of a search that never leaves early.

    Args:
        max_length: longest caption, in words.
        beam_size: K.
        length_penalty: 0 ranks by probability alone and favours short captions, 1 by the mean
            per token.

    Raises:
        ValueError: if a size is not positive or the penalty negative.

    Source:
        Wu et al. 2016 (GNMT), sec. 7, with the plain power of the length.
    """

    def __init__(self, max_length: int, beam_size: int, length_penalty: float) -> None:
        super().__init__(max_length)
        if beam_size < 1 or length_penalty < 0:
            raise ValueError(
                "beam_size must be at least 1 and length_penalty at least 0, "
                f"found {beam_size} and {length_penalty}."
            )
        self.beam_size = beam_size
        self.length_penalty = length_penalty

    @torch.inference_mode()
    def __call__(self, decoder: Decoder, features: ImageFeatures) -> list[Hypothesis]:
        num_images, K = len(features), self.beam_size
        device = features.pooled.device
        alive = torch.arange(num_images, device=device)  # images still searched
        rows = alive.repeat_interleave(K)
        state = decoder.select(decoder.start(features), rows)
        token = torch.full((num_images * K,), START_ID, device=device)
        total = torch.full((num_images, K), -torch.inf, device=device)  # log p of each beginning
        total[:, 0] = 0.0  # all beams begin alike: one speaks for them
        best = _Best(num_images, device)
        words, parents = [], []  # each step's (B, K), to walk back
        longest = (self.max_length + 1) ** self.length_penalty

        for t in range(self.max_length + 1):
            log_probs, state = decoder.step(token, state)
            vocabulary_size = log_probs.shape[1]
            reached = total.unsqueeze(-1) + forbid_special(log_probs).view(len(alive), K, -1)
            width = min(2 * K, K * vocabulary_size)
            top, index = reached.flatten(1).topk(width)  # (B, 2K), K of them may end
            word, parent = index % vocabulary_size, index // vocabulary_size

            ends = word == END_ID
            ending = top[:, :K].masked_fill(~ends[:, :K], -torch.inf)
            log_prob, rank = ending.max(-1)  # equal lengths: the likeliest is the best
            source = parent.gather(1, rank.unsqueeze(-1)).squeeze(-1)
            best.offer(alive, log_prob, log_prob / (t + 1) ** self.length_penalty, t, source)
            if t == self.max_length:
                break

            going = top.masked_fill(ends, -torch.inf)
            total, order = going.topk(K)
            word, parent = word.gather(1, order), parent.gather(1, order)
            words.append(_scatter(word, alive, num_images))
            parents.append(_scatter(parent, alive, num_images))

            # log p only falls, and a long caption divides it by most.
            hopeful = best.score[alive] < total[:, 0] / longest
            keep = hopeful.nonzero().squeeze(-1)
            if len(keep) == 0:
                break
            images = None if len(keep) == len(alive) else keep
            rows = (keep.unsqueeze(-1) * K + parent[keep]).flatten()
            state = decoder.select(state, rows, images)
            token, total, alive = word[keep].flatten(), total[keep], alive[keep]

        best.take_unfinished(alive, total, self.max_length, self.length_penalty)
        return best.walk_back(words, parents)


class _Best:
    """The best caption of each image so far, as a place to walk back from."""

    def __init__(self, num_images: int, device: torch.device) -> None:
        self.score = torch.full((num_images,), -torch.inf, device=device)
        self.log_prob = torch.full((num_images,), -torch.inf, device=device)
        self.length = torch.zeros(num_images, dtype=torch.int64, device=device)
        self.beam = torch.zeros(num_images, dtype=torch.int64, device=device)
        self.finished = torch.zeros(num_images, dtype=torch.bool, device=device)

    def offer(
        self, images: Tensor, log_prob: Tensor, score: Tensor, length: int, beam: Tensor
    ) -> None:
        better = score > self.score[images]
        at = images[better]
        self.score[at], self.log_prob[at] = score[better], log_prob[better]
        self.length[at], self.beam[at], self.finished[at] = length, beam[better], True

    def take_unfinished(
        self, images: Tensor, total: Tensor, max_length: int, length_penalty: float
    ) -> None:
        """Where nothing was finished, the likeliest beginning, which comes first."""
        at = images[~self.finished[images]]
        log_prob = total[~self.finished[images], 0]
        self.log_prob[at], self.score[at] = log_prob, log_prob / max_length**length_penalty
        self.length[at], self.beam[at] = max_length, 0

    def walk_back(self, words: list[Tensor], parents: list[Tensor]) -> list[Hypothesis]:
        captions: list[list[int]] = [[] for _ in self.score]
        lengths, beams = self.length.tolist(), self.beam.tolist()
        for t in reversed(range(len(words))):
            word, parent = words[t].tolist(), parents[t].tolist()
            for i, caption in enumerate(captions):
                if t < lengths[i]:
                    caption.append(word[i][beams[i]])
                    beams[i] = parent[i][beams[i]]
        return [
            Hypothesis(tuple(reversed(caption)), log_prob, score, finished)
            for caption, log_prob, score, finished in zip(
                captions,
                self.log_prob.tolist(),
                self.score.tolist(),
                self.finished.tolist(),
                strict=True,
            )
        ]


def _scatter(values: Tensor, images: Tensor, num_images: int) -> Tensor:
    full = values.new_zeros(num_images, values.shape[1])
    full[images] = values
    return full
