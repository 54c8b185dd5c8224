"""One interface to the features of images, for training, evaluation and captioning."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from captionlab.corpora import CaptionCorpus
from captionlab.errors import ConfigError
from captionlab.features.builder import ImageEncoder, describe, open_or_build, prepare
from captionlab.features.store import FeatureStore
from captionlab.images.augmentation import View
from captionlab.images.photos import num_cores
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.images.preprocessing import normalise
from captionlab.options import Count
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing


class FeatureSource(ABC):
    """Features of any images.

    Args:
        device: where features are wanted.
        autocast_dtype: in which encoder and decoder compute; None for float32.
    """

    def __init__(self, device: torch.device, autocast_dtype: torch.dtype | None) -> None:
        self.device = device
        self.autocast_dtype = autocast_dtype

    @abstractmethod
    def read(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        """Features of a corpus's images, float32 on `device`, a batch of image ids at a time."""


class EncoderFeatures(FeatureSource):
    """Features by one encoder.

    Args:
        encoder: what encodes.
        folder: where stored features are kept.
        batch_size: images encoded at once.
        num_workers: processes that read photos; null for a quarter of the cores beside an encoder
            on the CPU, else for all but one, and for at most 8.
        stored_features: `all`, or `pooled` for vectors without maps, which need a fraction of the
            disk and suffice for decoders that do not attend.
        device: where the encoder runs.
        autocast_dtype: in which it computes; None for float32.

    Attributes:
        trained: whether the encoder is trained with the decoder; nothing is stored then.
        places_known: whether it is known where in the photo each position of the map lies.
    """

    trained: bool
    places_known = True

    def __init__(
        self,
        encoder: ImageEncoder,
        folder: Path,
        *,
        batch_size: Count,
        num_workers: Annotated[int, Ge(0)] | None,
        stored_features: Literal["all", "pooled"],
        device: torch.device,
        autocast_dtype: torch.dtype | None,
    ) -> None:
        super().__init__(device, autocast_dtype)
        self.encoder = encoder
        self.folder = folder
        self.batch_size = batch_size
        # Beside an encoder on the CPU, more workers take its cores.
        spare = num_cores() // 4 if device.type == "cpu" else num_cores() - 1
        self.num_workers = min(spare, 8) if num_workers is None else num_workers
        self.stored_features = stored_features

    @property
    def feature_shape(self) -> FeatureShape:
        """Of one image."""
        return self.encoder.feature_shape

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels become the encoder's input."""
        return self.encoder.preprocessing

    @abstractmethod
    def prepare(self, corpus: CaptionCorpus, views: Sequence[View] = ()) -> dict[str, Any]:
        """Do once what a corpus needs before its features can be read.

        Args:
            corpus: to train on.
            views: augmented views of its training photos.

        Returns:
            What the features are and what they cost, in plain values: `name` of the store or
            None, `corpus`, `encoder`, `preprocessing`, `feature_shape`, `encoder_parameters` and
            `encode_seconds`; and `calibration`, the encoder's, as tensors.
        """

    @abstractmethod
    def load(self) -> None:
        """Load the encoder's weights onto `device`, once, so that threads may call `encode`.

        Raises:
            WeightsError: if the weights cannot be loaded.
        """

    @abstractmethod
    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Features of any photos, float32 on `device`; loads the weights where they are not yet.

        Args:
            pixels: uint8 (B, 3, S, S), as `images.preprocessing.read_pixels` gives them.
        """

    def encode_images(self, images: Tensor) -> ImageFeatures:
        """Features as the encoder gives them, through which gradients flow.

        Args:
            images: normalised, float32 (B, 3, S, S), on `device`.
        """
        dtype = self.autocast_dtype
        with torch.autocast(self.device.type, dtype, dtype is not None):
            return self.encoder(images).to(torch.float32)

    def _forward(self, pixels: Tensor) -> ImageFeatures:
        with torch.inference_mode():
            return self.encode_images(normalise(pixels.to(self.device), self.preprocessing))


class StoredFeatures(EncoderFeatures):
    """A frozen encoder: each image is encoded once, stored, and read from disk.

    Args:
        own_corpus: gives the corpus to whose images random weights were fitted; None for an
            encoder that has not been fitted yet, or needs no fit.
        others: as of `EncoderFeatures`.
    """

    trained = False

    def __init__(
        self,
        encoder: ImageEncoder,
        folder: Path,
        *,
        own_corpus: Callable[[], CaptionCorpus] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(encoder, folder, **others)
        self._own_corpus = own_corpus
        self._loaded: ImageEncoder | None = None
        self._stores: dict[tuple[str, str | None], FeatureStore] = {}

    def prepare(self, corpus: CaptionCorpus, views: Sequence[View] = ()) -> dict[str, Any]:
        store = self.open(corpus)
        stores = [store, *(self.open(corpus, view) for view in views)]
        seconds = sum(s.manifest["encode_seconds"] for s in stores)
        return {**store.manifest, "encode_seconds": seconds, "calibration": store.calibration}

    def open(self, corpus: CaptionCorpus, view: View | None = None) -> FeatureStore:
        """The store of a corpus, encoded first where it is not yet.

        Raises:
            ConfigError: if the encoder's random weights were fitted to another corpus.
        """
        key = (corpus.fingerprint, view and view.fingerprint)
        if key not in self._stores:
            self._require_own(corpus)
            self._stores[key] = open_or_build(
                self.folder,
                corpus,
                copy.deepcopy(self.encoder),  # its weights are needed no longer afterwards
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                device=self.device,
                autocast_dtype=self.autocast_dtype,
                view=view,
                with_grid=self.stored_features == "all",
            )
        return self._stores[key]

    def read(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        store = self.open(corpus)
        for batch in batches:
            yield store.read(batch).to(self.device, dtype=torch.float32)

    def load(self) -> None:
        """See `EncoderFeatures`."""
        if self._loaded is not None:
            return
        encoder = copy.deepcopy(self.encoder)
        if encoder.num_calibration_images and not encoder.calibration:
            assert self._own_corpus is not None
            corpus = self._own_corpus()
            prepare(encoder, corpus, self.device, self.batch_size, self.num_workers)
        else:
            encoder.prepare([], self.device)
        self.encoder = self._loaded = encoder

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """See `EncoderFeatures`; rounded to float16, as features are where they are stored."""
        self.load()
        return self._forward(pixels).to(torch.float16).to(torch.float32)

    def _require_own(self, corpus: CaptionCorpus) -> None:
        if not self.encoder.num_calibration_images or self._own_corpus is None:
            return
        if corpus.fingerprint != self._own_corpus().fingerprint:
            raise ConfigError(
                "this run's encoder has random weights that were fitted to its own data set, and "
                f"its features of {corpus.name} would differ from those it was trained on; "
                "evaluate the run on its own data set, or train one with encoder.weights=imagenet."
            )


class LiveFeatures(EncoderFeatures):
    """An encoder that is trained: images are encoded as they are asked for."""

    trained = True

    def prepare(self, corpus: CaptionCorpus, views: Sequence[View] = ()) -> dict[str, Any]:
        """See `EncoderFeatures`; loads the weights on the CPU, from where Lightning takes them."""
        cpu = torch.device("cpu")
        prepare(self.encoder, corpus, cpu, self.batch_size, self.num_workers)
        return {
            "name": None,
            "encode_seconds": 0.0,
            "calibration": {},
            **describe(corpus, self.encoder),
        }

    def read(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        paths = {image.image_id: image.path for image in corpus.images}
        photos = Photos([(paths[i], None) for ids in batches for i in ids], self.preprocessing)
        size = len(batches[0]) if batches else 1
        yield from map(self.encode, pixel_batches(photos, size, self.num_workers))

    def load(self) -> None:
        """See `EncoderFeatures`."""
        assert isinstance(self.encoder, torch.nn.Module)
        self.encoder.to(self.device)  # from the CPU, where training left it

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """See `EncoderFeatures`."""
        self.load()
        return self._forward(pixels)
