"""A published classifier up to a feature map, frozen or trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from captionlab.encoders.cut import (
    Pooled,
    Train,
    cut_network,
    on_meta,
    output_names,
    trained_parameters,
)
from captionlab.encoders.folding import fold_layers
from captionlab.encoders.protocol import Encoder
from captionlab.encoders.random_weights import (
    restore_layers,
    scale_residual_branches,
    standardise_layers,
)
from captionlab.encoders.transforms import Whitening, positions
from captionlab.encoders.weights import (
    PackagedFile,
    download,
    find,
    identity,
    load_into,
    read,
    stem_of,
)
from captionlab.errors import ConfigError
from captionlab.options import Count, Derived, Natural
from captionlab.seeding import seeded_by
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing

NUM_CALIBRATION_IMAGES = 64


class Classifier(NamedTuple):
    """A published network, its weights, and the pixels that they were trained on.

    Attributes:
        name: of the architecture.
        build: makes the network with fresh weights, classifier included.
        source: of its published weights: a URL whose file name ends in the start of the file's
            SHA-256, or a file in a Python package.
        preprocessing: of these weights.
        rename: turns a key of an old published file into the network's.
        licence: of these weights; None where their publisher states none.
        weights: names of these weights.
    """

    name: str
    build: Callable[[], nn.Module]
    source: str | PackagedFile
    preprocessing: Preprocessing
    rename: Callable[[str], str] = str
    licence: str | None = None
    weights: tuple[str, ...] = ("imagenet",)


class ClassifierEncoder(Encoder):
    """A classifier cut at a feature map and at its whole-image vector.

    The map is the last one that no pooling made: conv5_3 for VGG-16, as in Xu et al. 2015,
    sec. 4.3; a transformer's is the sequence of its patches. The vector is what the last linear
    layer reads. With `stage` the network ends after that stage: the map is the stage's last before
    any pooling, the vector its mean over all positions, and later layers are never run. The encoder
    is made on the meta device, so that declaring its shapes takes no memory; `prepare` loads the
    weights.

    The layers between map and vector (VGG's linear layers, say) are never trained: decoders that
    look at maps alone give them no gradient.

    Args:
        weights: `imagenet` (the first that were published, downloaded once or from a package), the
            name of others, such as `IMAGENET1K_V2` of torchvision, `none` (drawn from `init_seed`,
            each layer's scale fitted to some training images, without which a deep random network's
            output carries no image), or the path of a state dict, or of a folder that
            holds `<name>.pth` or `<name>-<hash>.pth`.
        image_size: side of the square input, in pixels; null for the one that the weights were
            trained on. The shorter side is resized to it, then the centre is cropped. ImageNet's
            evaluation crop of 0.875 is left out: captions speak of the borders.
        init_seed: of the random weights, apart from a run's seed so that all runs share features.
        pooled: the whole-image vector: `features` for the vector above, `logits` for the scores
            of the 1000 classes, which no `stage` but null has.
        train: `none`, `last` (stage), `all`, or the number of last stages, up to the map, that are
            trained. A stage is the layers of one resolution, or one layer of a transformer.
        grid_size: the map is averaged into so many rows and columns; null for the network's own.
        stage: the network ends after this stage, counted from 1; null for the whole network.
        whiten: whether the map's channels are made uncorrelated, with mean 0 and variance 1 on some
            training images (Coates & Ng 2012, sec. 2.2): decoders learn faster from random
            or low layers.
        coordinates: whether row and column of each position, from -1 to 1, are two more channels of
            the map (Liu et al. 2018).
        classifier: the network that is cut; None for the `published` one of a subclass.

    Attributes:
        num_stages: of the network up to the map.

    Raises:
        ConfigError: if the classifier has no such map or vector, or fewer stages, or the image
            size does not fit.
        WeightsError: if `weights` is neither a word above nor a readable path.
    """

    def __init__(
        self,
        weights: str = "imagenet",
        image_size: Count | None = None,
        init_seed: Natural = 0,
        pooled: Pooled = "features",
        train: Train = "none",
        grid_size: Count | None = None,
        stage: Count | None = None,
        whiten: bool = False,
        coordinates: bool = False,
        *,
        classifier: Annotated[Classifier | None, Derived] = None,
    ) -> None:
        super().__init__()
        if classifier is None:
            classifier = self.published()
        problem = self.conflict({"pooled": pooled, "stage": stage})
        if problem is not None:
            raise ConfigError(f"encoder.{problem}")
        self.classifier = classifier
        self.weights = weights
        self.has_random_weights = weights == "none"
        self.init_seed = init_seed
        self.grid_size = grid_size
        self.coordinates = coordinates
        named = weights == "none" or weights in classifier.weights
        self.weights_path = None if named else find(weights, classifier.name)
        native = classifier.preprocessing
        cut, stages = cut_network(
            classifier.build, classifier.name, native.image_size, pooled, stage
        )
        self.trunk: nn.Module = cut
        self._graph = cut.graph  # `prepare` folds layers away in a copy
        size = native.image_size if image_size is None else image_size
        self.preprocessing = replace(native, image_size=size, resize_size=size)
        self.feature_shape, channels = self._declare()
        self.whitening = Whitening(channels) if whiten else None
        calibrates = weights == "none" or whiten
        self.num_calibration_images = NUM_CALIBRATION_IMAGES if calibrates else 0
        self.num_parameters = sum(p.numel() for p in self.parameters())
        self.num_stages = len(stages)
        self._trained = trained_parameters(cut, stages, classifier.name, train)
        self.num_trained_parameters = sum(cut.get_parameter(name).numel() for name in self._trained)
        self.fingerprint = "/".join(
            [
                classifier.name,
                *output_names(cut),
                self._identity(),
                *([] if grid_size is None else [f"grid-{grid_size}"]),
                *([f"white-{self.num_calibration_images}"] if whiten else []),
                *(["coordinates"] if coordinates else []),
            ]
        )

    @classmethod
    def published(cls) -> Classifier:
        """The network that is cut, with its weights; of a subclass for one network."""
        raise NotImplementedError

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        """What is wrong with options that are each in range; None if nothing is."""
        stage = options.get("stage")
        if stage is not None and options.get("pooled") == "logits":
            return (
                f"pooled=logits are the scores of the whole network, which encoder.stage={stage} "
                "cuts short; use pooled=features or stage=null."
            )
        return None

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        """Load the weights; fit random layers and the whitening to the images.

        A frozen encoder's batch norms, residuals and activations are folded into its
        convolutions. See `Encoder`.
        """
        trunk = fx.GraphModule(self._load().eval(), self._graph).to(device)
        trunk = trunk.to(memory_format=torch.channels_last)
        known, fitted = self.calibration, dict[str, Tensor]()
        calibrates = self.num_calibration_images and not known
        images = torch.cat(list(batches)).to(device) if calibrates else None
        if self.weights == "none":
            if images is None:
                restore_layers(trunk, known)
            else:
                fitted |= standardise_layers(trunk, images)
        trunk.eval()
        self.trunk = trunk if self._trained else fold_layers(trunk)
        if self.whitening is not None:
            if images is None:
                self.whitening.restore(known, device)
            else:
                with torch.no_grad():
                    fitted |= self.whitening.fit(self._map_and_vector(images)[0])
        self.calibration = known or fitted
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(name in self._trained)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Encoder`."""
        if not self._trained:
            self.trunk = fold_layers(fx.GraphModule(self.trunk, self._graph).eval())
        super().restore(state)
        self.trunk.to(memory_format=torch.channels_last)  # what rounds as after `prepare`
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(name in self._trained)

    @property
    def weights_facts(self) -> dict[str, str]:
        """See `Encoder`."""
        if self.weights == "none":
            return {
                "name": self._identity(),
                "source": f"drawn from seed {self.init_seed}, each layer fitted to "
                f"{NUM_CALIBRATION_IMAGES} training images",
            }
        if self.weights_path is not None:
            return {"name": self.weights_path.name, "source": self._identity()}
        source, licence = self.classifier.source, self.classifier.licence
        return {
            "name": self._identity(),
            "source": source if isinstance(source, str) else f"Python package {source.package}",
            "licence": licence or "not stated by the publisher; the terms of ImageNet may apply",
        }

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode preprocessed images, float32 (B, 3, S, S), into (B, P, C) and (B, G)."""
        grid, pooled = self._map_and_vector(images)
        if self.whitening is not None:
            grid = self.whitening(grid)
        if self.coordinates:
            places = positions(*self.feature_shape.grid_size).to(grid)
            grid = torch.cat([grid, places.expand(len(grid), -1, -1)], dim=-1)
        return ImageFeatures(grid, pooled)

    def _map_and_vector(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.trunk(images.contiguous(memory_format=torch.channels_last))
        grid = outputs["grid"]  # (B, C, rows, columns), or (B, 1 + P, C) with the class token first
        whole = grid.flatten(2).transpose(1, 2) if grid.dim() == 4 else grid[:, 1:]  # (B, P, C)
        pooled = outputs["pooled"] if "pooled" in outputs else whole.mean(1)
        if self.grid_size is not None:
            if grid.dim() == 3:
                side = math.isqrt(whole.shape[1])
                grid = whole.transpose(1, 2).unflatten(2, (side, side))
            grid = functional.adaptive_avg_pool2d(grid, self.grid_size)
            whole = grid.flatten(2).transpose(1, 2)
        return whole, pooled

    def _declare(self) -> tuple[FeatureShape, int]:
        """The features' shape, and the channels of the network's own map."""
        size, native = self.preprocessing.image_size, self.classifier.preprocessing.image_size
        try:
            outputs = self.trunk(torch.empty(1, 3, size, size, device="meta"))
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"encoder.image_size={size} does not fit {self.classifier.name}, which was trained "
                f"at {native}; use null for that size, or one nearer to it."
            ) from error
        shape = outputs["grid"].shape
        if len(shape) == 4:
            rows, columns, channels = shape[2], shape[3], shape[1]
        else:
            rows = columns = math.isqrt(shape[1] - 1)
            channels = shape[2]
        if self.grid_size is not None:
            rows = columns = self.grid_size
        pooled_dim = outputs["pooled"].shape[1] if "pooled" in outputs else channels
        grid_dim = channels + 2 * self.coordinates
        return FeatureShape((rows, columns), grid_dim, pooled_dim), channels

    def _identity(self) -> str:
        if self.weights_path:
            return identity(self.weights_path)
        if self.weights == "none":
            return f"random-{self.init_seed}-{self.num_calibration_images}"
        return stem_of(self.classifier.source)

    def _load(self) -> nn.Module:
        if self.weights == "none":
            with seeded_by(self.init_seed):
                model = self.classifier.build()
            scale_residual_branches(model)
            return model
        path, source = self.weights_path, self.classifier.source
        if path is None and not isinstance(source, str):
            path = source.locate()
        state = download(str(source)) if path is None else read(path)
        model = on_meta(self.classifier.build)
        misfit = f"{path or source} does not fit {self.classifier.name}"
        load_into(model, state, self.classifier.rename, misfit)
        return model.float()
