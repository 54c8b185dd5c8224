"""A published classifier up to its last feature map, frozen or trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from captionlab.encoders.protocol import Encoder
from captionlab.encoders.random_weights import scale_residual_branches, standardise_layers
from captionlab.encoders.stages import find_stages, shape_of
from captionlab.encoders.weights import download, find, identity, load_into, read
from captionlab.errors import ConfigError
from captionlab.options import Count, Natural
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing

NUM_CALIBRATION_IMAGES = 64
Pooled = Literal["features", "logits"]
Train = Literal["none", "last", "all"] | Count
_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


class Classifier(NamedTuple):
    """A published network, its weights, and the pixels that they were trained on.

    Attributes:
        name: of the architecture.
        build: makes the network with fresh weights, classifier included.
        url: of its ImageNet weights; the file's name ends in the start of its SHA-256.
        preprocessing: of these weights.
        rename: turns a key of an old published file into the network's.
    """

    name: str
    build: Callable[[], nn.Module]
    url: str
    preprocessing: Preprocessing
    rename: Callable[[str], str] = str


class ClassifierEncoder(Encoder):
    """A classifier cut at its last feature map and at its whole-image vector.

    The map is the last one that no pooling made: conv5_3 for VGG-16, as in Xu et al. 2015,
    sec. 4.3; a transformer's is the sequence of its patches. The vector is what the last linear
    layer reads. The encoder is made on the meta device, so that declaring its shapes takes no
    memory; `prepare` loads the weights.

    The layers between map and vector (VGG's linear layers, say) are never trained: decoders that
    look at maps alone give them no gradient.

    Args:
        classifier: the network that is cut.
        weights: `imagenet` (the published ones, downloaded once), `none` (drawn from `init_seed`,
            each layer's scale fitted to some training images, without which a deep random
            network's output carries no image), or the path of a state dict, or of a folder that
            holds `<name>.pth` or `<name>-<hash>.pth`.
        image_size: side of the square input, in pixels; null for the one that the weights were
            trained on. The shorter side is resized to it, then the centre is cropped. ImageNet's
            evaluation crop of 0.875 is left out: captions speak of the borders.
        init_seed: of the random weights, apart from a run's seed so that all runs share features.
        pooled: the whole-image vector: `features` for the vector above, `logits` for the scores
            of the 1000 classes.
        train: `none`, `last` (stage), `all`, or the number of last stages that are trained. A
            stage is the layers of one resolution, or one layer of a transformer.
        grid_size: the map is averaged into so many rows and columns; null for the network's own.

    Raises:
        ConfigError: if the classifier has no such map or vector, or fewer stages, or the image
            size does not fit.
        WeightsError: if `weights` is neither a word above nor a readable path.
    """

    def __init__(
        self,
        classifier: Classifier,
        weights: str,
        image_size: Count | None,
        init_seed: Natural,
        pooled: Pooled,
        train: Train,
        grid_size: Count | None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.weights = weights
        self.init_seed = init_seed
        self.grid_size = grid_size
        named = weights in ("imagenet", "none")
        self.weights_path = None if named else find(weights, classifier.name)
        native = classifier.preprocessing
        cut = _cut(classifier, pooled)
        self.trunk: nn.Module = cut
        self._graph = cut.graph  # `prepare` folds layers away in a copy
        size = native.image_size if image_size is None else image_size
        self.preprocessing = replace(native, image_size=size, resize_size=size)
        self.feature_shape = self._declare()
        self.num_calibration_images = NUM_CALIBRATION_IMAGES if weights == "none" else 0
        self.num_parameters = sum(p.numel() for p in self.parameters())
        nodes = cast(dict[str, fx.Node], self._graph.output_node().args[0])
        self._trained = _trained(cut, nodes["grid"], classifier, train)
        self.num_trained_parameters = sum(cut.get_parameter(name).numel() for name in self._trained)
        self.fingerprint = "/".join(
            [
                classifier.name,
                *(node.name for node in nodes.values()),
                self._identity(),
                *([] if grid_size is None else [f"grid-{grid_size}"]),
            ]
        )

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        """Load the weights and, where they are random, fit each layer's scale to the images.

        A frozen encoder's batch norms are folded into their convolutions, which saves a sixth of
        the time. See `Encoder`.
        """
        trunk = fx.GraphModule(self._load().eval(), self._graph).to(device)
        trunk = trunk.to(memory_format=torch.channels_last)
        if self.num_calibration_images:
            standardise_layers(trunk, torch.cat(list(batches)).to(device))
        trunk.eval()
        self.trunk = trunk if self._trained else fuse(trunk, inplace=True, no_trace=True)
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(name in self._trained)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode preprocessed images, float32 (B, 3, S, S), into (B, P, C) and (B, G)."""
        outputs = self.trunk(images.contiguous(memory_format=torch.channels_last))
        grid = outputs["grid"]  # (B, C, rows, columns), or (B, 1 + P, C) with the class token first
        if self.grid_size is not None:
            if grid.dim() == 3:
                side = math.isqrt(grid.shape[1] - 1)
                grid = grid[:, 1:].transpose(1, 2).unflatten(2, (side, side))
            grid = functional.adaptive_avg_pool2d(grid, self.grid_size)
        grid = grid.flatten(2).transpose(1, 2) if grid.dim() == 4 else grid[:, 1:]
        return ImageFeatures(grid, outputs["pooled"])

    def _declare(self) -> FeatureShape:
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
        return FeatureShape((rows, columns), channels, outputs["pooled"].shape[1])

    def _identity(self) -> str:
        if self.weights_path:
            return identity(self.weights_path)
        if self.weights == "imagenet":
            return self.classifier.url.rsplit("/", 1)[-1].removesuffix(".pth")
        return f"random-{self.init_seed}-{self.num_calibration_images}"

    def _load(self) -> nn.Module:
        if self.weights == "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.init_seed)
                model = self.classifier.build()
            scale_residual_branches(model)
            return model
        path, url = self.weights_path, self.classifier.url
        state = read(path) if path else download(url)
        model = _on_meta(self.classifier.build)
        misfit = f"{path or url} does not fit {self.classifier.name}"
        load_into(model, state, self.classifier.rename, misfit)
        return model.float()


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # torchvision's RegNet computes its widths with tensors
        return build().to("meta")


def _cut(classifier: Classifier, pooled: Pooled) -> fx.GraphModule:
    """The classifier without its head, on the meta device, giving `grid` and `pooled`."""
    if pooled not in get_args(Pooled):
        raise ValueError(f"pooled={pooled!r} is unknown; use features or logits.")
    trunk = fx.symbolic_trace(_on_meta(classifier.build).eval())
    size = classifier.preprocessing.image_size
    ShapeProp(trunk).propagate(torch.empty(1, 3, size, size, device="meta"))
    layers = dict(trunk.named_modules())
    *nodes, output = trunk.graph.nodes
    grid = vector = None
    for node in nodes:
        layer = layers[node.target] if node.op == "call_module" else None
        if _is_map(node) and not isinstance(layer, _POOLINGS):
            grid = node
        if isinstance(layer, nn.Linear):
            vector = node.args[0]
    if pooled == "logits":
        vector = output.args[0]
    if grid is None or vector is None or len(shape_of(vector)) != 2:
        raise ConfigError(
            f"encoder architecture {classifier.name} shows no "
            f"{'feature map' if grid is None else 'linear layer over a whole-image vector'}; "
            f"use {'another architecture' if grid is None else 'encoder.pooled=logits'}."
        )
    output.args = ({"grid": grid, "pooled": vector},)
    trunk.graph.eliminate_dead_code()
    trunk.delete_all_unused_submodules()
    trunk.recompile()
    return trunk


def _trained(cut: fx.GraphModule, grid: fx.Node, classifier: Classifier, train: Train) -> set[str]:
    """Names of the parameters that `train` asks for."""
    stages = find_stages(cut, grid, classifier.preprocessing.image_size)
    words = {"none": 0, "last": 1, "all": len(stages)}
    num_trained = words[train] if train in words else int(train)
    if train not in words and num_trained < 1:
        raise ValueError(f"train={train!r} must be at least 1; use none to train no stage.")
    if num_trained > len(stages):
        raise ConfigError(
            f"encoder.train={train}, but {classifier.name} has {len(stages)} stages; use at most "
            "that number, or all."
        )
    return {name for stage in stages[len(stages) - num_trained :] for name in stage}


def _is_map(node: fx.Node) -> bool:
    """Whether `node` gives (1, C, rows, columns) or (1, tokens, C), of more than one position."""
    shape = shape_of(node)
    return (len(shape) == 4 and min(shape[2:]) > 1) or (len(shape) == 3 and shape[1] > 1)
