"""Self-critical sequence training: REINFORCE with CIDEr-D, and BLEU-4 beside it, as the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from captionlab.decoders import Decoder
from captionlab.decoders.fast.log_probabilities import log_probabilities
from captionlab.metrics.counting import NGramReferences
from captionlab.metrics.definitions.bleu import bleu, bleu_statistics
from captionlab.metrics.definitions.cider import cider_d
from captionlab.objectives.protocol import Mean, Objective
from captionlab.options import Count, NonNegative, Positive
from captionlab.search import GreedySearch, SampleSearch, caption_tokens
from captionlab.text import Vocabulary, mirror_words
from captionlab.types import PAD_ID, START_ID, UNKNOWN_ID, CaptionBatch, Hypothesis, ImageFeatures

_END = "\x03"  # end of text: no caption has this word


class CaptionReward:
    """CIDEr-D, and BLEU-4 beside it, of captions whose end counts as a word.

    Without the end a model learns to stop in the middle of a phrase.

    Args:
        references: training image to its tokenised captions, words joined by spaces; document
            frequencies are theirs.
        bleu_weight: of BLEU-4, in [0, 1], beside CIDEr-D, in [0, 10].
    """

    def __init__(self, references: Mapping[str, Sequence[str]], bleu_weight: float) -> None:
        self._references = NGramReferences(
            {image: [f"{text} {_END}" for text in texts] for image, texts in references.items()}
        )
        self.bleu_weight = bleu_weight

    def __call__(
        self, images: Sequence[str], captions: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        """Reward of each caption.

        Args:
            images: image ids, one per caption.
            captions: words joined by spaces.
            finished: whether the caption has its end token.

        Returns:
            CIDEr-D plus `bleu_weight` times BLEU-4, one per caption.
        """
        ended = [f"{c} {_END}" if end else c for c, end in zip(captions, finished, strict=True)]
        counts = self._references.count(ended, images)
        values = cider_d(counts)
        if not self.bleu_weight:
            return values
        return [
            value + self.bleu_weight * bleu(row)[-1]
            for value, row in zip(values, bleu_statistics(counts), strict=True)
        ]


class SelfCritical(Objective):
    """REINFORCE: sampled captions become likelier as far as they beat a baseline.

    The loss is the mean over sampled tokens, end counted, of -(reward - baseline) log p. Captions
    are drawn without dropout, as a search will write them; their log p is computed with dropout,
    without which the model soon overfits the training images.

    Args:
        vocabulary: turns ids into words.
        references: training image to its tokenised captions, words joined by spaces.
        max_length: longest caption, in words.
        baseline: `greedy` is the reward of the image's greedy caption (Rennie et al.), `samples`
            the mean reward of the image's other samples (Luo).
        num_samples: captions drawn per image.
        temperature: of the distribution that is drawn from and learned; below 1 it is nearer to
            the captions that a search will write.
        bleu_weight: of BLEU-4 beside CIDEr-D.

    Raises:
        ValueError: if the baseline of samples has fewer than two.

    Source:
        Rennie et al. 2017, eq. 7-9; Luo 2020, "A better variant of self-critical sequence
        training", eq. 3.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        references: Mapping[str, Sequence[str]],
        max_length: Count,
        baseline: Literal["greedy", "samples"],
        num_samples: Count,
        temperature: Positive,
        bleu_weight: NonNegative,
    ) -> None:
        problem = self.conflict({"baseline": baseline, "num_samples": num_samples})
        if problem is not None:
            raise ValueError(problem)
        self.vocabulary = vocabulary
        self.baseline = baseline
        self.num_samples = num_samples
        self.temperature = temperature
        self.reward = CaptionReward(references, bleu_weight)
        self.max_length = max_length
        self._greedy = GreedySearch(max_length)

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        """What is wrong with options that are each in range; None if nothing is."""
        number = options["num_samples"]
        if options["baseline"] == "samples" and number < 2:
            return f"num_samples must be at least 2 for the baseline of samples, found {number}."
        return None

    def means(
        self, decoder: Decoder, batch: CaptionBatch, progress: float
    ) -> tuple[list[Mean], dict[str, Mean]]:
        decoder.eval()
        drawn = self._draw(decoder, batch.features)
        rewarded = [caption for captions in drawn for caption in captions]
        images = [image for image in batch.image_ids for _ in range(self.num_samples)]
        if self.baseline == "greedy":
            rewarded += self._greedy(decoder, batch.features)
            images += batch.image_ids
        decoder.train()
        log_probs, captions = self._log_probabilities(decoder, batch.features, drawn)
        texts = [self.vocabulary.decode(caption.tokens) for caption in rewarded]
        for i, image in enumerate(images):
            if image in batch.mirrored:  # the references describe the image itself
                texts[i] = " ".join(mirror_words(texts[i].split(" ")))
        finished = [caption.finished for caption in rewarded]
        rewards = torch.tensor(self.reward(images, texts, finished), device=log_probs.device)
        num_drawn = len(batch) * self.num_samples
        sampled = rewards[:num_drawn].view(len(batch), self.num_samples)
        if self.baseline == "greedy":
            baseline = rewards[num_drawn:].unsqueeze(-1)
        else:
            baseline = (sampled.sum(-1, keepdim=True) - sampled) / (self.num_samples - 1)
        advantage = (sampled - baseline).flatten()
        loss = -(advantage[captions] * log_probs).mean()
        return [Mean(loss, len(log_probs))], {
            "reward": Mean(sampled.mean(), num_drawn),
            "baseline": Mean(baseline.mean(), num_drawn),
        }

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
        """Of every token drawn, end counted, (M,) with gradient; and its caption, int64 (M,)."""
        device = features.pooled.device
        logits, targets, captions, _ = decoder(features, caption_tokens(drawn, device))
        if self.temperature != 1:
            logits = logits.float() / self.temperature
        # What is never drawn leaves its probability to the others.
        never = torch.tensor([PAD_ID, START_ID, UNKNOWN_ID], device=device)
        logits = logits.index_fill(1, never, -torch.inf)
        return log_probabilities(logits, targets.unsqueeze(-1))[:, 0], captions
