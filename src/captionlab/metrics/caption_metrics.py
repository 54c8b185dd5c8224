"""The caption metrics of a set of images, on one process or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from captionlab.metrics.protocol import Scores
from captionlab.metrics.scorer import CaptionScorer


class CaptionMetrics(torchmetrics.Metric):
    """Registered metrics that need no Java, each once over all images.

    The state is the captions alone, by image, so that any number of processes, with any share of
    the images and with images seen twice, gives the scores of one. Where an image got several
    captions the first counts, in the order of the processes.

    Args:
        references: image id to its captions as people wrote them, at least one. Every image
            needs a caption to be scored.

    Raises:
        DataError: if there is no image, or one without captions.

    Example:
        >>> metrics = CaptionMetrics({"a": ["A red ball."], "b": ["Two dogs run.", "Dogs."]})
        >>> metrics.update(["a", "b"], ["a red ball", "two cats run"])
        >>> round(metrics.compute().corpus["bleu_1"], 3)
        0.833
    """

    full_state_update = False
    image_indices: list[Tensor]
    lengths: list[Tensor]
    utf8: list[Tensor]

    def __init__(self, references: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._scorer = CaptionScorer(references)
        self._index = {image_id: i for i, image_id in enumerate(self._scorer.image_ids)}
        for name in ("image_indices", "lengths", "utf8"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget the captions; the references stay."""
        super().reset()
        # A process without captions must still take part in the gather: gloo aborts on a list
        # without a tensor.
        self._add([], [], b"")

    def update(self, image_ids: Sequence[str], captions: Sequence[str]) -> None:
        """Add captions of images.

        Args:
            image_ids: B ids, as in the references.
            captions: B texts, as the model writes them.

        Raises:
            DataError: if an image has no references.
        """
        self._scorer.check_known(image_ids)
        encoded = [caption.encode("utf-8", "replace") for caption in captions]
        indices = [self._index[i] for i, _ in zip(image_ids, encoded, strict=True)]
        self._add(indices, [len(text) for text in encoded], b"".join(encoded))

    def compute(self) -> Scores:
        """Score the captions of all processes, as `CaptionScorer.score` does."""
        utf8 = dim_zero_cat(self.utf8).cpu().numpy().tobytes()
        image_ids = self._scorer.image_ids
        captions: dict[str, str] = {}
        end = 0
        for index, length in zip(
            dim_zero_cat(self.image_indices).tolist(),
            dim_zero_cat(self.lengths).tolist(),
            strict=True,
        ):
            start, end = end, end + length
            captions.setdefault(image_ids[index], utf8[start:end].decode())
        return self._scorer.score(captions)

    def _add(self, indices: list[int], lengths: list[int], utf8: bytes) -> None:
        self.image_indices.append(torch.tensor(indices, dtype=torch.int64, device=self.device))
        self.lengths.append(torch.tensor(lengths, dtype=torch.int64, device=self.device))
        self.utf8.append(torch.tensor(list(utf8), dtype=torch.uint8, device=self.device))
