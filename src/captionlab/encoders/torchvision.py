"""Encoders cut out of torchvision's ImageNet classifiers."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from captionlab.encoders.classifier import Classifier, ClassifierEncoder
from captionlab.encoders.cut import Pooled, Train
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
# What the addresses lead to that torchvision gives for licences; it states no others.
_LICENCES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "CC-BY-NC 4.0"}
_NAME = re.compile(r"[A-Z][A-Z0-9_]+")  # as torchvision names weights


class TorchvisionEncoder(ClassifierEncoder):
    """A torchvision classifier up to its last feature map.

    Args:
        architecture: name of a torchvision classifier.
        others: see `ClassifierEncoder`.

    Raises:
        ConfigError: if the architecture is unknown or cannot be cut, or has no weights of that
            name, or the image size does not fit.
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
        whiten: bool = False,
        coordinates: bool = False,
    ) -> None:
        super().__init__(
            weights,
            image_size,
            init_seed,
            pooled,
            train,
            grid_size,
            stage,
            whiten,
            coordinates,
            classifier=_published(architecture, weights),
        )


def published_weights(architecture: str) -> dict[str, Any]:
    """Name to published weights of a torchvision classifier, the first first.

    `DEFAULT` is none of them: it is another's name, and which one's depends on the release.

    Raises:
        ConfigError: if the architecture is unknown.
    """
    # Late: torchvision takes a second to import, and options are read at every start.
    import torchvision
    from torchvision.models import get_model_weights, list_models

    known = list_models(module=torchvision.models)
    if architecture not in known:
        near = ", ".join(get_close_matches(architecture, known, n=5, cutoff=0))
        raise ConfigError(
            f"encoder.architecture={architecture} is unknown; the nearest are {near}. "
            "torchvision.models.list_models(torchvision.models) lists all."
        )
    return {weights.name: weights for weights in get_model_weights(architecture)}


def describe_weights(weights: Any) -> str:
    """Accuracy, size and, if it is stated, licence: such as `81.9 %, 330 MB, CC-BY-NC 4.0`."""
    accuracy = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    facts = ["accuracy not stated" if math.isnan(accuracy) else f"{accuracy:.1f} %"]
    facts.append(f"{weights.meta['_file_size']:.0f} MB")
    licence = _licence(weights)
    return ", ".join(facts if licence is None else [*facts, licence])


def _licence(weights: Any) -> str | None:
    """By its name if we know it, else by its address; None if torchvision states none."""
    stated: str | None = weights.meta.get("license")
    return stated and _LICENCES.get(stated, stated)


def _published(architecture: str, name: str) -> Classifier:
    """The classifier with the weights of a name; with its first for any other word or a path."""
    from torchvision.models import get_model  # late, as above

    offered = published_weights(architecture)
    first = next(iter(offered))
    if name not in offered and _NAME.fullmatch(name) and not Path(name).exists():
        listed = ", ".join(f"{key} ({describe_weights(value)})" for key, value in offered.items())
        raise ConfigError(
            f"encoder.weights={name}: {architecture} has no weights of that name; use {listed}, "
            "imagenet (the first), none, or a path."
        )
    published = offered.get(name, offered[first])
    options = _OPTIONS.get(architecture, {})
    if architecture.startswith("vit_"):  # whose positions are as many as the weights' patches
        options = {**options, "image_size": published.meta["min_size"][0]}
    transform = published.transforms()
    return Classifier(
        name=architecture,
        build=partial(get_model, architecture, weights=None, **options),
        source=published.url,
        preprocessing=Preprocessing(
            image_size=transform.crop_size[0],
            resize_size=transform.crop_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        ),
        rename=partial(_DOTTED.sub, r"\1\2"),
        licence=_licence(published),
        weights=("imagenet", published.name) if published.name == first else (published.name,),
    )
