"""The expected reward of the captions that a model writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.metrics.ngram import NGramScorer, bleu
from captionlab.objectives.protocol import Objective
from captionlab.search import GreedySearch, SampleSearch, caption_tokens
from captionlab.text import Vocabulary, mirror_words
from captionlab.types import PAD_ID, START_ID, UNKNOWN_ID, CaptionBatch, Hypothesis, ImageFeatures

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

    The loss is the mean over sampled tokens, end counted, of -(reward - baseline) log p. Captions
    are drawn as they will be written, without dropout, and learned from with it: without, the
    training images are soon known by heart.

    Args:
        vocabulary: turns ids into words.
        references: training image to its tokenised captions, words joined by spaces.
        max_length: longest caption, in words.
        baseline: `greedy` is the reward of the image's greedy caption (Rennie et al.), `samples`
            the mean reward of the image's other samples (Luo).
        num_samples: captions drawn per image.
        temperature: of the distribution that is drawn from and learned, > 0; below 1 it is nearer
            to the captions that a search will write.
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
        temperature: float,
        bleu_weight: float,
    ) -> None:
        if baseline not in ("greedy", "samples"):
            raise ValueError(f"baseline must be greedy or samples, found {baseline}.")
        if num_samples < (2 if baseline == "samples" else 1) or temperature <= 0 or bleu_weight < 0:
            raise ValueError(
                "num_samples must be at least 1, 2 for the baseline of samples, temperature "
                "positive and bleu_weight at least 0, "
                f"found {num_samples}, {temperature} and {bleu_weight}."
            )
        self.vocabulary = vocabulary
        self.baseline = baseline
        self.num_samples = num_samples
        self.temperature = temperature
        self.reward = CaptionReward(references, bleu_weight)
        self.max_length = max_length
        self._greedy = GreedySearch(max_length)

    def __call__(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        decoder.eval()
        drawn = self._draw(decoder, batch.features)
        written = [caption for captions in drawn for caption in captions]
        images = [image for image in batch.image_ids for _ in range(self.num_samples)]
        if self.baseline == "greedy":
            written += self._greedy(decoder, batch.features)
            images += batch.image_ids
        decoder.train()
        # Autocast keeps its casts of the weights, and those made above have no gradient.
        torch.clear_autocast_cache()
        log_probs, captions = self._log_probabilities(decoder, batch.features, drawn)
        texts = [self.vocabulary.decode(caption.tokens) for caption in written]
        for i, image in enumerate(images):
            if image in batch.mirrored:  # people saw it the other way round
                texts[i] = " ".join(mirror_words(texts[i].split(" ")))
        finished = [caption.finished for caption in written]
        rewards = torch.tensor(self.reward(images, texts, finished), device=log_probs.device)
        num_drawn = len(batch) * self.num_samples
        sampled = rewards[:num_drawn].view(len(batch), self.num_samples)
        if self.baseline == "greedy":
            baseline = rewards[num_drawn:].unsqueeze(-1)
        else:
            baseline = (sampled.sum(-1, keepdim=True) - sampled) / (self.num_samples - 1)
        advantage = (sampled - baseline).flatten()
        loss = -(advantage[captions] * log_probs).mean()
        return loss, {"reward": float(sampled.mean()), "baseline": float(baseline.mean())}

    def _draw(self, decoder: Decoder, features: ImageFeatures) -> list[list[Hypothesis]]:
        """Captions of each image, drawn from the model's own distribution."""
        seed = int(torch.randint(2**31, ()))
        search = SampleSearch(
            self.max_length, temperature=self.temperature, top_k=None, top_p=1.0, seed=seed
        )
        return search.draw(decoder, features, self.num_samples)

    def _log_probabilities(
        self, decoder: Decoder, features: ImageFeatures, drawn: Sequence[Sequence[Hypothesis]]
    ) -> tuple[Tensor, Tensor]:
        """Of every token drawn, end counted, (M,) with gradient; and whose it is, int64 (M,)."""
        device = features.pooled.device
        told = decoder(features, caption_tokens(drawn, device))
        log_probs = (told.logits.float() / self.temperature).log_softmax(-1)
        # What is never drawn leaves its probability to the others. One gather, since its gradient
        # is as large as the logits.
        never = torch.tensor([PAD_ID, START_ID, UNKNOWN_ID], device=device)
        never = never.expand(len(log_probs), -1)
        found = log_probs.gather(1, torch.cat([told.targets.unsqueeze(-1), never], 1))
        return found[:, 0] - torch.log1p(-found[:, 1:].exp().sum(-1)), told.captions
