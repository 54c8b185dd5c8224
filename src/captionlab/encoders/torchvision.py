"""Encoders cut out of torchvision's ImageNet classifiers."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import partial
from typing import Any

from captionlab.encoders.classifier import Classifier, ClassifierEncoder, Pooled, Train
from captionlab.errors import ConfigError
from captionlab.options import Count, Natural
from captionlab.types import Preprocessing

# Arguments that the published weights need and that a builder without weights does not set: these
# two were ported from networks that scale pixels to [-1, 1], and their own initialisation takes
# minutes.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}
# Keys of the DenseNet files, which are older than the rule that names hold no dot.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)")


class TorchvisionEncoder(ClassifierEncoder):
    """A torchvision classifier up to its last feature map.

    Args:
        architecture: name of a torchvision classifier that has IMAGENET1K_V1 weights.
        others: see `ClassifierEncoder`.

    Raises:
        ConfigError: if the architecture is unknown or cannot be cut, or the image size does not
            fit.
        WeightsError: see `ClassifierEncoder`.
    """

    def __init__(
        self,
        architecture: str,
        weights: str = "imagenet",
        image_size: Count | None = None,
        init_seed: Natural = 0,
        pooled: Pooled = "features",
        train: Train = "none",
        grid_size: Count | None = None,
        stage: Count | None = None,
    ) -> None:
        published = _published(architecture)
        super().__init__(published, weights, image_size, init_seed, pooled, train, grid_size, stage)


def _published(architecture: str) -> Classifier:
    # Late: torchvision takes a second to import, and options are read at every start.
    import torchvision
    from torchvision.models import get_model, get_model_weights, list_models

    known = list_models(module=torchvision.models)
    if architecture not in known:
        near = ", ".join(get_close_matches(architecture, known, n=5, cutoff=0))
        raise ConfigError(
            f"encoder.architecture={architecture} is unknown; the nearest are {near}. "
            "torchvision.models.list_models(torchvision.models) lists all."
        )
    offered = get_model_weights(architecture).__members__
    if "IMAGENET1K_V1" not in offered:
        raise ConfigError(
            f"encoder.architecture={architecture} has no IMAGENET1K_V1 weights, which tell its "
            f"preprocessing (found {', '.join(offered)}); use another."
        )
    published = offered["IMAGENET1K_V1"]
    transform = published.transforms()
    return Classifier(
        name=architecture,
        build=partial(get_model, architecture, weights=None, **_OPTIONS.get(architecture, {})),
        url=published.url,
        preprocessing=Preprocessing(
            image_size=transform.crop_size[0],
            resize_size=transform.crop_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        ),
        rename=partial(_DOTTED.sub, r"\1\2"),
        licence=published.meta.get("license"),
    )
