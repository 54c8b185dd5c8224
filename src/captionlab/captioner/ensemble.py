"""The features that an ensemble reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from captionlab.corpora import CaptionCorpus
from captionlab.features.source import FeatureSource
from captionlab.search import EnsembleFeatures
from captionlab.types import ImageFeatures


class EnsembleSource(FeatureSource):
    """The features of several encoders, for the decoders of an ensemble.

    Args:
        members: one for each decoder.
    """

    def __init__(self, members: Sequence[FeatureSource]) -> None:
        super().__init__(members[0].device, members[0].autocast_dtype)
        self.members = members

    def read(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        """`EnsembleFeatures` of each batch."""
        features = [member.read(corpus, batches) for member in self.members]
        return (EnsembleFeatures.of(parts) for parts in zip(*features, strict=True))
