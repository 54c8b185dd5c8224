"""What every encoder declares and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor, nn

from captionlab.types import FeatureShape, ImageFeatures, Preprocessing


class Encoder(nn.Module, ABC):
    """Turns preprocessed images into `ImageFeatures`.

    All attributes are set by the constructor, which loads and downloads nothing; `prepare` loads
    the weights. The layers are not run in training mode, even where they are trained: batch norms
    keep the statistics that came with the weights, and nothing is dropped.

    A trained encoder's `state_dict` can be loaded, with `assign=True`, into an equal encoder that
    was not prepared.

    Attributes:
        fingerprint: names everything that an image's features depend on, besides its pixels and
            the preprocessing: two untrained encoders of equal fingerprint give equal features.
            Its first part, before a `/`, is the architecture's name.
        preprocessing: how pixels become input; it comes with the weights.
        feature_shape: sizes of one image's features.
        num_calibration_images: how many training images `prepare` reads; 0 for most.
        calibration: what `prepare` fitted to these images, float32 by name. If it was set before to
            that of an equal encoder, `prepare` uses it and reads no images.
        num_parameters: of all layers up to the features.
        num_trained_parameters: of those, how many are trained; 0 where the encoder is frozen.
        has_random_weights: whether it starts from weights that were trained on nothing.
    """

    fingerprint: str
    preprocessing: Preprocessing
    feature_shape: FeatureShape
    num_calibration_images: int
    calibration: Mapping[str, Tensor] = MappingProxyType({})
    num_parameters: int
    num_trained_parameters: int
    has_random_weights: bool = False

    @abstractmethod
    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        """Load the weights; called once more, it starts from the published weights again.

        Afterwards exactly the trained parameters require a gradient.

        Args:
            batches: preprocessed training images, float32 (B, 3, S, S), `num_calibration_images`
                in all, in batches of any size; not read if that is 0 or
                `calibration` is set.
            device: where the encoder is to run.

        Raises:
            WeightsError: if the weights cannot be downloaded or read, or do not fit; it names the
                keys.
        """

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the `state_dict` that an equal encoder had after `prepare`, in place of `prepare`.

        Raises:
            RuntimeError: if it is of another encoder.
        """
        self.load_state_dict(state, assign=True)

    @property
    def weights_facts(self) -> dict[str, str]:
        """What is known of the weights before training: `name`, `source` and `licence`."""
        return {}

    @abstractmethod
    def forward(self, images: Tensor) -> ImageFeatures:
        """Features of preprocessed images, float32 (B, 3, S, S)."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that require a gradient; call it after `prepare`."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the mode of the module that holds the encoder."""
        return super().train(False)
