"""An encoder whose weights were loaded before, such as those in an exported file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from captionlab.encoders.protocol import Encoder
from captionlab.types import ImageFeatures


class RestoredEncoder(Encoder):
    """A frozen encoder that has its weights: `prepare` looks for no file and fits nothing.

    Args:
        encoder: not prepared.
        state: the `state_dict` that an equal encoder had after `prepare`.
        fingerprint: that this encoder had.
        fitted_to: fingerprint of the corpus to which its random weights were fitted; not used
            where they are not random.

    Attributes:
        encoder: with its weights.
    """

    def __init__(
        self, encoder: Encoder, state: Mapping[str, Tensor], fingerprint: str, fitted_to: str
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.fingerprint = fingerprint
        if encoder.num_calibration_images:  # on another corpus, such an encoder is another
            self.fingerprint += f"/fitted-{fitted_to[:12]}"
        self.preprocessing = encoder.preprocessing
        self.feature_shape = encoder.feature_shape
        self.num_calibration_images = 0
        self.num_parameters = encoder.num_parameters
        self.num_trained_parameters = 0
        encoder.restore(state)

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        """Move to the device."""
        self.to(device)

    def forward(self, images: Tensor) -> ImageFeatures:
        features: ImageFeatures = self.encoder(images)
        return features
