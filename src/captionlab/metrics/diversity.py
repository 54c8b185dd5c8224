"""What the language of a set of captions is like, whatever it says of the images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, pairwise
from statistics import fmean

from captionlab.metrics.ngram import NGramScorer

COLLAPSED_SHARE = 0.3  # of images with one and the same caption, above which a model is blind


def language(
    captions: Sequence[Sequence[str]], training: Collection[tuple[str, ...]] = ()
) -> dict[str, float]:
    """Variety and honesty of captions, one per image.

    Args:
        captions: tokenised, at least one.
        training: all training captions, tokenised alike; empty if they are not known.

    Returns:
        `distinct_captions`: distinct captions over captions. `most_common`: share of images with
        the most frequent caption. `novel_captions`: share that is no training caption, where
        these are known. `vocabulary_used`: distinct words. `distinct_1`, `distinct_2`: distinct
        unigrams and bigrams over all of them. `mean_length`: in words. `unigram_entropy`,
        `bigram_entropy`: in bits.

    Source:
        Li et al. 2016 (distinct-n); Tanti et al. 2018, sec. 4.3 (the others).
    """
    whole = [tuple(caption) for caption in captions]
    counts = Counter(whole)
    words = Counter(chain.from_iterable(whole))
    bigrams = Counter(pair for caption in whole for pair in pairwise(caption))
    found = {
        "distinct_captions": len(counts) / len(whole),
        "most_common": counts.most_common(1)[0][1] / len(whole),
        "vocabulary_used": float(len(words)),
        "distinct_1": _distinct(words),
        "distinct_2": _distinct(bigrams),
        "mean_length": fmean(len(caption) for caption in whole),
        "unigram_entropy": _entropy(words),
        "bigram_entropy": _entropy(bigrams),
    }
    if training:
        found["novel_captions"] = sum(caption not in training for caption in whole) / len(whole)
    return found


def warning(found: Mapping[str, float], num_images: int) -> str | None:
    """What to tell a user whose captions collapsed to a few; None if they did not."""
    if num_images < 10 or found["most_common"] <= COLLAPSED_SHARE:
        return None
    return (
        f"the captions collapsed: {100 * found['most_common']:.0f} % of the {num_images} images "
        f"got the same one, and only {found['distinct_captions'] * num_images:.0f} are distinct. "
        "The model hardly looks at the images; train longer or lower the learning rate."
    )


def mutual_bleu(samples: Mapping[str, Sequence[str]]) -> float:
    """MBLEU-4: BLEU-4 of each of several captions against the others of its image.

    The lower, the more they differ.

    Args:
        samples: image id to m tokenised captions, the same m > 1 for all.

    Returns:
        The mean over the m corpus scores.

    Raises:
        ValueError: if the numbers differ or are below two.

    Source:
        Shetty et al. 2017, sec. 4.
    """
    sizes = {len(captions) for captions in samples.values()}
    if len(sizes) != 1 or min(sizes) < 2:
        raise ValueError(f"images must have the same number of captions, >= 2, found {sizes}.")
    values = []
    for k in range(sizes.pop()):
        others = {i: [*captions[:k], *captions[k + 1 :]] for i, captions in samples.items()}
        one = {image: captions[k] for image, captions in samples.items()}
        values.append(NGramScorer(others).score(one, ("bleu",))[0]["bleu_4"])
    return fmean(values)


def _distinct(counts: Counter[str] | Counter[tuple[str, str]]) -> float:
    return len(counts) / total if (total := counts.total()) else 0.0


def _entropy(counts: Counter[str] | Counter[tuple[str, str]]) -> float:
    total = counts.total()
    return sum(n / total * math.log2(total / n) for n in counts.values()) if total else 0.0
