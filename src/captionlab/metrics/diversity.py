"""What the language of a set of captions is like, whatever it says of the images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, pairwise
from statistics import fmean

import numpy as np

from captionlab.metrics.counting import ORDERS, NGramReferences
from captionlab.metrics.definitions.bleu import bleu, bleu_statistics

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
    values = {
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
        values["novel_captions"] = sum(caption not in training for caption in whole) / len(whole)
    return values


def collapse_warning(values: Mapping[str, float], num_images: int) -> str | None:
    """What to tell a user whose captions collapsed to a few; None if they did not.

    Args:
        values: of `language`.
        num_images: that have a caption.
    """
    if num_images < 10 or values["most_common"] <= COLLAPSED_SHARE:
        return None
    return (
        f"the captions collapsed: {100 * values['most_common']:.0f} % of the {num_images} images "
        f"got the same one, and only {values['distinct_captions'] * num_images:.0f} are distinct. "
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
        rows = bleu_statistics(NGramReferences(others).count(list(one.values())))
        values.append(bleu([sum(column) for column in zip(*rows, strict=True)])[-1])
    return fmean(values)


def self_cider(samples: Mapping[str, Sequence[str]], references: NGramReferences) -> float:
    """How much several captions of one image differ: 0 if they are equal, at most 1.

    The kernel of an image's captions is their CIDEr (the cosine of TF-IDF, without CIDEr-D's
    clipping and length penalty).

    Args:
        samples: image id to two tokenised captions or more.
        references: whose document frequencies are used.

    Returns:
        The mean over images.

    Raises:
        ValueError: for fewer than two captions of an image.

    Source:
        Wang & Chan 2019, sec. 4: -log_m(r), r the largest singular value's share of the sum.
    """
    return fmean(_self_cider(image, texts, references) for image, texts in samples.items())


def _self_cider(image: str, captions: Sequence[str], references: NGramReferences) -> float:
    if len(captions) < 2:
        raise ValueError(f"diversity needs two captions at least, found {len(captions)}.")
    kernel = np.zeros((len(captions), len(captions)))
    counts = references.count(captions, [image] * len(captions))
    for matched, order in zip(counts.matched, references.orders, strict=True):
        vectors = np.zeros((len(captions), int(matched.gram.max(initial=0)) + 1))
        vectors[matched.caption, matched.gram] = order.weigh(matched)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(norms > 0, norms, 1)
        kernel += unit @ unit.T / ORDERS
    equal = np.array([[a == b for b in captions] for a in captions])
    kernel[equal] = 1.0  # short captions have no 4-gram
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0.0, None))
    share = float(singular.max() / singular.sum())
    return abs(math.log(share)) / math.log(len(captions))


def _distinct(counts: Counter[str] | Counter[tuple[str, str]]) -> float:
    return len(counts) / total if (total := counts.total()) else 0.0


def _entropy(counts: Counter[str] | Counter[tuple[str, str]]) -> float:
    total = counts.total()
    return sum(n / total * math.log2(total / n) for n in counts.values()) if total else 0.0
