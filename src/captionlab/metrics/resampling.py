"""Corpus scores of any resample of the images, from what each metric sums over images.

CIDEr-D's document frequencies stay those of the whole set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75  # METEOR 1.5 for English
_STAGES = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


class CorpusStatistics:
    """What one set of captions got, image by image, ready to be summed.

    Args:
        per_image: `cider_d`, `rouge_l` and so on to one value per image.
        statistics: `bleu` and `meteor` to one row per image; either may be missing.

    Attributes:
        columns: float64 (B, S), whose sums over images determine every score.
        names: of the scores.

    Raises:
        ValueError: if the numbers of images differ.
    """

    def __init__(
        self,
        per_image: Mapping[str, Sequence[float]],
        statistics: Mapping[str, Sequence[Sequence[float]]],
    ) -> None:
        parts: list[Array] = []
        self._slices: dict[str, slice] = {}
        summed = {name: np.array(rows, dtype=float) for name, rows in statistics.items()}
        if "meteor" in summed:
            _forgive_whole_matches(summed["meteor"])
        means = [name for name in per_image if not name.startswith(("bleu_", "meteor"))]
        summed |= {name: np.array(per_image[name], dtype=float)[:, None] for name in means}
        begin = 0
        for name, rows in summed.items():
            self._slices[name] = slice(begin, begin := begin + rows.shape[1])
            parts.append(rows)
        self.columns: Array = np.concatenate(parts, axis=1)
        self.names = sorted(self.scores(self.columns.sum(axis=0, keepdims=True)))

    def __len__(self) -> int:
        return len(self.columns)

    def scores(self, sums: Array, num_images: int | None = None) -> dict[str, Array]:
        """Corpus scores by name.

        Args:
            sums: (R, S), each row the sum of `columns` over a resample.
            num_images: in each resample; None for all of them.

        Returns:
            Each (R,), as fractions (CIDEr-D 0 to 10).
        """
        found: dict[str, Array] = {}
        for name, columns in self._slices.items():
            if name.startswith("bleu"):
                for k, values in enumerate(bleu(sums[:, columns]), 1):
                    found[f"bleu_{k}{name.removeprefix('bleu')}"] = values
            elif name == "meteor":
                found[name] = meteor(sums[:, columns])
            else:
                found[name] = sums[:, columns.start] / (num_images or len(self))
        return found


def bleu(sums: Array) -> list[Array]:
    """BLEU-1 to 4 of summed statistics (R, 10), as `captionlab.metrics.ngram.bleu` has them."""
    correct, guessed = sums[:, :4] + 1e-15, sums[:, 4:8] + 1e-9
    with np.errstate(divide="ignore", over="ignore"):
        ratio = (sums[:, 8] + 1e-15) / (sums[:, 9] + 1e-9)
        brevity = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
    logs = np.cumsum(np.log(correct / guessed), axis=1)
    return [np.exp(logs[:, k] / (k + 1)) * brevity for k in range(4)]


def _forgive_whole_matches(rows: Array) -> None:
    """Where caption and reference match as one chunk METEOR sees no fragment, in a sum neither."""
    whole = (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1]) & (rows[:, 20] == 1)
    rows[whole, 20] = 0


def meteor(sums: Array) -> Array:
    """METEOR 1.5 (`-l en`) of summed statistics (R, 23).

    The columns: words, and function words, of caption and reference; for each stage of matching
    its matches among content and function words of both; chunks (0 where a caption matches as a
    whole); words matched of both.

    Source:
        Denkowski & Lavie 2014, sec. 3; parameters of the English ranking task.
    """
    words, reference_words, function, reference_function = sums[:, :4].T
    stages = sums[:, 4:20].reshape(-1, 4, 4)  # (R, stage, [content, their content, function, ...])
    chunks, matched, reference_matched = sums[:, 20:23].T

    def weigh(content: Array, functional: Array) -> Array:
        return _DELTA * content + (1 - _DELTA) * functional

    with np.errstate(divide="ignore", invalid="ignore"):
        precision = weigh(stages[:, :, 0] @ _STAGES, stages[:, :, 2] @ _STAGES) / weigh(
            words - function, function
        )
        recall = weigh(stages[:, :, 1] @ _STAGES, stages[:, :, 3] @ _STAGES) / weigh(
            reference_words - reference_function, reference_function
        )
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragmentation = chunks / ((matched + reference_matched) / 2)
        score = mean * (1 - _GAMMA * fragmentation**_BETA)
    found: Array = np.nan_to_num(score, nan=0.0)
    return found
