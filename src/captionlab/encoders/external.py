"""Stand-in for the encoder of a run on features made by other programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import torch
from torch import Tensor

from captionlab.encoders.protocol import Encoder
from captionlab.errors import ConfigError
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing


class ExternalEncoder(Encoder):
    """Has the name and the sizes of features that were made elsewhere, and encodes nothing.

    Args:
        path: of the features.
        fingerprint: of their content.
        feature_shape: of one image.
    """

    num_calibration_images = num_parameters = num_trained_parameters = 0

    def __init__(self, path: str, fingerprint: str, feature_shape: FeatureShape) -> None:
        super().__init__()
        self.path = path
        self.fingerprint = fingerprint
        self.feature_shape = feature_shape

    @property
    def preprocessing(self) -> Preprocessing:  # type: ignore[override]
        """Unknown.

        Raises:
            ConfigError: always.
        """
        self._refuse()

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        self._refuse()

    def forward(self, images: Tensor) -> ImageFeatures:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"this model reads features that were made elsewhere (data.features={self.path}), and "
            "cannot see photos; caption new photos by a run with an encoder."
        )
