"""What a model makes of captions: how likely the references are, and what else it would write."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captionlab.captioner.captioner import Captioner
from captionlab.corpora import CaptionCorpus, Split
from captionlab.search import SampleSearch, caption_log_probabilities
from captionlab.text import Tokenizer
from captionlab.types import Hypothesis

_IMAGES_AT_ONCE = 10  # each with every caption of the pool


def sample(
    captioner: Captioner, corpus: CaptionCorpus, split: Split, num_samples: int
) -> dict[str, list[Hypothesis]]:
    """Several captions for each image of a split, drawn from the model's own distribution."""
    search = SampleSearch(
        captioner.search.max_length, temperature=1.0, top_k=None, top_p=1.0, seed=0
    )
    samples: dict[str, list[Hypothesis]] = {}
    with captioner.autocast():
        for images, features in captioner.features("drawing captions", corpus, _ids(corpus, split)):
            drawn = search.draw(captioner.decoder, features, num_samples, images)
            samples |= zip(images, drawn, strict=True)
    return samples


def perplexity(
    captioner: Captioner, tokenizer: Tokenizer, corpus: CaptionCorpus, split: Split
) -> float:
    """Perplexity of the references per token; the end token counts, unknown words are one token."""
    total, count = 0.0, 0
    references = _encode(captioner, tokenizer, corpus, split)
    with captioner.autocast():
        for images, features in captioner.features(
            "reading references", corpus, _ids(corpus, split)
        ):
            tokens = _stack([references[image] for image in images], captioner.source.device)
            log_probs, counts = caption_log_probabilities(captioner.decoder, features, tokens)
            total += float(log_probs.sum())
            count += int(counts.sum())
    return math.exp(-total / count)


def retrieval(
    captioner: Captioner, tokenizer: Tokenizer, corpus: CaptionCorpus, split: Split, pool_size: int
) -> dict[str, float]:
    """Recall of image retrieval: each image's first reference is a query for its own image.

    The `pool_size` first images of the split are ranked by the likelihood of the query. Equal
    likelihoods are ranked at random and the recalls are the expected ones, so that a model blind to
    its images gets k / `pool_size`.

    Returns:
        `recall_at_1`, `recall_at_5` and `recall_at_10`.

    Source:
        Tanti et al. 2018, sec. 4.3.
    """
    references = _encode(captioner, tokenizer, corpus, split)
    pool = list(references)[:pool_size]
    captions = [references[image][0] for image in pool]
    rows = []
    with captioner.autocast():
        for images, features in captioner.features(
            "looking for images", corpus, pool, _IMAGES_AT_ONCE
        ):
            tokens = _stack([captions] * len(images), captioner.source.device)
            rows.append(caption_log_probabilities(captioner.decoder, features, tokens)[0])
    likelihood = torch.cat(rows)  # (images, captions)
    own = likelihood.diagonal()
    better = (likelihood > own).sum(0)
    equal = (~(likelihood < own)).sum(0) - better  # its own image among them; all if it is NaN
    return {f"recall_at_{k}": float(((k - better) / equal).clamp(0, 1).mean()) for k in (1, 5, 10)}


def _ids(corpus: CaptionCorpus, split: Split) -> list[str]:
    return [image.image_id for image in corpus.splits[split]]


def _encode(
    captioner: Captioner, tokenizer: Tokenizer, corpus: CaptionCorpus, split: Split
) -> dict[str, list[list[int]]]:
    return {
        image.image_id: [captioner.vocabulary.encode(tokenizer(text)) for text in image.captions]
        for image in corpus.splits[split]
    }


def _stack(captions: Sequence[Sequence[list[int]]], device: torch.device) -> Tensor:
    """Ids as int64 (B, N, T), padded."""
    most = max(map(len, captions))
    empty: list[int] = []
    filled = [[*of_image, *[empty] * (most - len(of_image))] for of_image in captions]
    rows = [torch.tensor(caption).long() for of_image in filled for caption in of_image]
    return pad_sequence(rows, batch_first=True).view(len(captions), most, -1).to(device)
