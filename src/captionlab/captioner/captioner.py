"""A decoder, the features that it reads and a search: what writes captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from captionlab.corpora import CaptionCorpus
from captionlab.decoders import Decoder
from captionlab.features.source import FeatureSource
from captionlab.options import Count
from captionlab.progress import bar
from captionlab.search import EnsembleDecoder, Search
from captionlab.text import Vocabulary
from captionlab.types import Hypothesis, ImageFeatures


class Captioner:
    """Writes captions of the images of a corpus, or of any photos.

    Args:
        decoder: moved to the device of `source`, and put in evaluation mode.
        vocabulary: of the decoder.
        source: of the features that the decoder reads.
        search: writes a caption.
        batch_size: images captioned at once.
    """

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        source: FeatureSource,
        search: Search,
        batch_size: Count,
    ) -> None:
        self.decoder = decoder.to(source.device).eval()
        self.vocabulary = vocabulary
        self.source = source
        self.search = search
        self.batch_size = batch_size

    @classmethod
    def ensemble(cls, members: Sequence[Captioner], source: FeatureSource) -> Captioner:
        """Captioners of one vocabulary as one: the mean of their probabilities.

        Args:
            members: search and batch size are the first one's.
            source: gives every member its own features.
        """
        first = members[0]
        decoder = EnsembleDecoder([member.decoder for member in members])
        return cls(decoder, first.vocabulary, source, first.search, first.batch_size)

    def write(self, corpus: CaptionCorpus, image_ids: Sequence[str]) -> dict[str, Hypothesis]:
        """A caption for each image of a corpus, in the order of the ids."""
        captions: dict[str, Hypothesis] = {}
        for images, features in self.features("writing captions", corpus, image_ids):
            captions |= zip(images, self.caption(features, images), strict=True)
        return captions

    def caption(
        self, features: ImageFeatures, image_ids: Sequence[str] | None = None
    ) -> list[Hypothesis]:
        """The best caption of each of B images; see `Search` for their names."""
        with self.autocast():
            return self.search(self.decoder, features, image_ids)

    def features(
        self,
        doing: str,
        corpus: CaptionCorpus,
        image_ids: Sequence[str],
        batch_size: int | None = None,
    ) -> Iterator[tuple[Sequence[str], ImageFeatures]]:
        """Batches of ids and the features of these images, whose progress is shown.

        Args:
            doing: what the display says.
            corpus: has the images.
            image_ids: in order.
            batch_size: images at once; None for the captioner's own.
        """
        size = batch_size or self.batch_size
        batches = [image_ids[begin : begin + size] for begin in range(0, len(image_ids), size)]
        with bar(doing, len(image_ids), "images") as shown:
            for batch, features in zip(batches, self.source.read(corpus, batches), strict=True):
                yield batch, features
                shown.advance(len(batch))

    def autocast(self) -> torch.autocast:
        """The number format in which the decoder computes."""
        dtype = self.source.autocast_dtype
        return torch.autocast(self.source.device.type, dtype, dtype is not None)
