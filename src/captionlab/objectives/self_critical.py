"""The expected reward of the captions that a model writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.metrics.ngram import NGramScorer, bleu
from captionlab.objectives.protocol import Objective
from captionlab.search import GreedySearch
from captionlab.search.protocol import forbid_special
from captionlab.search.sampling import draw_words
from captionlab.text import Vocabulary
from captionlab.types import END_ID, PAD_ID, START_ID, UNKNOWN_ID, CaptionBatch

_END = "<end>"  # no tokenizer makes this word


class CaptionReward:
    """CIDEr-D, and BLEU-4 beside it, of captions whose end counts as a word.

    Without the end a model learns to stop in the middle of a phrase.

    Args:
        references: training image to its tokenised captions, words joined by spaces; document
            frequencies are theirs.
        bleu_weight: of BLEU-4, in [0, 1], beside CIDEr-D, in [0, 10].
    """

    def __init__(self, references: Mapping[str, Sequence[str]], bleu_weight: float) -> None:
        self._scorer = NGramScorer(
            {image: [f"{text} {_END}" for text in texts] for image, texts in references.items()}
        )
        self.bleu_weight = bleu_weight

    def __call__(
        self, images: Sequence[str], captions: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        """Of tokenised captions, each of the image at its place."""
        ended = [f"{c} {_END}" if end else c for c, end in zip(captions, finished, strict=True)]
        cider_d, statistics = self._scorer.rate(images, ended)
        if not self.bleu_weight:
            return cider_d
        return [
            value + self.bleu_weight * bleu(row)[-1]
            for value, row in zip(cider_d, statistics, strict=True)
        ]


class SelfCritical(Objective):
    """REINFORCE: sampled captions become likelier as far as they beat a baseline.

    The loss is the mean over sampled tokens, end counted, of -(reward - baseline) log p.

    Args:
        vocabulary: turns ids into words.
        references: training image to its tokenised captions, words joined by spaces.
        max_length: longest caption, in words.
        baseline: `greedy` is the reward of the image's greedy caption (Rennie et al.), `samples`
            the mean reward of the image's other samples (Luo).
        num_samples: captions drawn per image.
        bleu_weight: of BLEU-4 beside CIDEr-D.

    Raises:
        ValueError: if the baseline is unknown or has too few samples, or a number is too small.

    Source:
        Rennie et al. 2017, eq. 7-9; Luo 2020, "A better variant of self-critical sequence
        training", eq. 3.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        references: Mapping[str, Sequence[str]],
        max_length: int,
        baseline: Literal["greedy", "samples"],
        num_samples: int,
        bleu_weight: float,
    ) -> None:
        if baseline not in ("greedy", "samples"):
            raise ValueError(f"baseline must be greedy or samples, found {baseline}.")
        if num_samples < (2 if baseline == "samples" else 1) or bleu_weight < 0:
            raise ValueError(
                "num_samples must be at least 1, 2 for the baseline of samples, and bleu_weight "
                f"at least 0, found {num_samples} and {bleu_weight}."
            )
        self.vocabulary = vocabulary
        self.baseline = baseline
        self.num_samples = num_samples
        self.reward = CaptionReward(references, bleu_weight)
        self.max_length = max_length
        self._greedy = GreedySearch(max_length)

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        tokens, log_probs = self._draw(decoder, batch)
        captions = [self.vocabulary.decode(row) for row in tokens.tolist()]
        finished = (tokens == END_ID).any(-1).tolist()
        images = [image for image in batch.image_ids for _ in range(self.num_samples)]
        if self.baseline == "greedy":
            # After the drawing: autocast keeps its casts of the weights, which need a gradient.
            decoder.eval()
            greedy = self._greedy(decoder, batch.features)
            decoder.train()
            captions += [self.vocabulary.decode(found.tokens) for found in greedy]
            finished += [found.finished for found in greedy]
            images += batch.image_ids
        rewards = torch.tensor(self.reward(images, captions, finished), device=tokens.device)
        sampled = rewards[: len(tokens)].view(len(batch), self.num_samples)
        if self.baseline == "greedy":
            baseline = rewards[len(tokens) :].unsqueeze(-1)
        else:
            baseline = (sampled.sum(-1, keepdim=True) - sampled) / (self.num_samples - 1)
        advantage = (sampled - baseline).view(-1, 1)
        is_word = tokens != PAD_ID
        loss = -(advantage * log_probs).masked_select(is_word).mean()
        return loss, {"reward": float(sampled.mean()), "baseline": float(baseline.mean())}

    def _draw(self, decoder: Decoder, batch: CaptionBatch) -> tuple[Tensor, Tensor]:
        """Captions of each image, drawn word by word.

        Returns:
            Tokens up to the end, then padding, int64 (B * num_samples, T); and the log-probability
            by which each was drawn, with gradient; 0 at padding.
        """
        device = batch.features.pooled.device
        rows = torch.arange(len(batch), device=device).repeat_interleave(self.num_samples)
        state = decoder.select(decoder.start(batch.features), rows)
        token = torch.full_like(rows, START_ID)
        done = torch.zeros_like(rows, dtype=torch.bool)
        never = torch.tensor([PAD_ID, START_ID, UNKNOWN_ID], device=device).expand(len(rows), -1)
        tokens, chosen = [], []
        for _ in range(self.max_length):
            log_probs, state = decoder.step(token, state)
            drawn = draw_words(forbid_special(log_probs.detach().clone()).exp_())
            # What is never drawn leaves its probability to the others. One gather, since its
            # gradient is as large as the vocabulary.
            told = log_probs.gather(1, torch.cat([drawn.unsqueeze(-1), never], 1))
            log_prob = told[:, 0] - torch.log1p(-told[:, 1:].exp().sum(-1))
            token = drawn.masked_fill(done, PAD_ID)
            tokens.append(token)
            chosen.append(log_prob.masked_fill(done, 0.0))
            done = done | (token == END_ID)
            if done.all():
                break
        return torch.stack(tokens, 1), torch.stack(chosen, 1)
