"""Frozen encoders cut out of torchvision's ImageNet classifiers.

A new one is a line in `ARCHITECTURES`: the node of its last feature map and the node of its
whole-image vector, by the names that `torchvision.models.feature_extraction` gives them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, cast
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision.models import WeightsEnum, get_model, get_model_weights
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import BasicBlock, Bottleneck

from captionlab.errors import ConfigError, WeightsError
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing


class Architecture(NamedTuple):
    """Where a torchvision classifier keeps its last map and its whole-image vector."""

    grid_node: str
    pooled_node: str


# VGG's map is conv5_3 (conv5_4) before the last pooling, as in Xu et al. 2015, sec. 4.3, and its
# vector fc7 after its rectifier; a ResNet's are the last stage and its mean over positions.
ARCHITECTURES = {
    "resnet18": Architecture("layer4", "flatten"),
    "resnet34": Architecture("layer4", "flatten"),
    "resnet50": Architecture("layer4", "flatten"),
    "resnet101": Architecture("layer4", "flatten"),
    "resnet152": Architecture("layer4", "flatten"),
    "vgg16": Architecture("features.29", "classifier.4"),
    "vgg19": Architecture("features.35", "classifier.4"),
}

NUM_CALIBRATION_IMAGES = 64
_LINEAR = (nn.Conv2d, nn.Linear)


class TorchvisionEncoder(nn.Module):
    """A torchvision classifier up to its last feature map, frozen.

    Made on the meta device, so that knowing its shapes costs no memory; `prepare` loads it.

    Args:
        architecture: a key of `ARCHITECTURES`.
        weights: `imagenet` (torchvision's IMAGENET1K_V1, downloaded once), `none` (drawn from
            `init_seed`, each layer's scale fitted to some training images, without which a deep
            random network's output carries no image), or the path of a state dict, or of a
            folder that holds `<architecture>.pth` or torchvision's `<architecture>-<hash>.pth`.
        image_size: side of the square input, in pixels; None for the one that the weights were
            trained on, 224.
        init_seed: of the random weights, apart from a run's seed so that all runs share features.

    Attributes:
        feature_shape: what an image becomes.
        preprocessing: how pixels become input: the shorter side to `image_size`, then a centre
            crop. ImageNet's evaluation crop of 0.875 is left out: captions speak of the borders.
        num_calibration_images: how many training images `prepare` wants.
        num_parameters: of all layers up to the features.
        fingerprint: names architecture, nodes, weights and seed: equal exactly where the features
            of an image are.

    Raises:
        ConfigError: if the architecture is unknown or the image too small for it.
        WeightsError: if `weights` is neither a word above nor a readable path.
    """

    def __init__(
        self,
        architecture: str,
        weights: str = "imagenet",
        image_size: int | None = None,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ConfigError(f"encoder architecture {architecture!r} is unknown; known: {known}.")
        self.architecture = architecture
        self.weights = weights
        self.init_seed = init_seed
        self.weights_path = None if weights in ("imagenet", "none") else self._find(weights)
        with torch.device("meta"):
            self.trunk = self._cut(get_model(architecture, weights=None))
        transform = self._imagenet_weights().transforms()
        self.preprocessing = Preprocessing(
            image_size=image_size or transform.crop_size[0],
            resize_size=image_size or transform.crop_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        )
        self.feature_shape = self._declare()
        self.num_calibration_images = NUM_CALIBRATION_IMAGES if weights == "none" else 0
        self.num_parameters = sum(p.numel() for p in self.parameters())
        self.fingerprint = "/".join([architecture, *ARCHITECTURES[architecture], self._identity()])

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        """Load the weights and, where they are random, fit each layer's scale to the images.

        Batch norms are folded into their convolutions, which spares a sixth of the time.

        Args:
            batches: preprocessed training images, float32 (B, 3, S, S), `num_calibration_images`
                in all, divided anyhow; not read if that is 0.
            device: where the encoder is to run.

        Raises:
            WeightsError: if the weights cannot be had or do not fit; it says which keys.
        """
        model = self._load()
        self.trunk = self._cut(model).to(device).to(memory_format=torch.channels_last)
        if self.num_calibration_images:
            self._standardise_layers(torch.cat(list(batches)).to(device))
        self.trunk = fuse(self.trunk.eval(), inplace=True).requires_grad_(False)

    def train(self, mode: bool = True) -> TorchvisionEncoder:
        """Stay in evaluation mode: frozen means batch norm included."""
        return super().train(False)

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode preprocessed images, float32 (B, 3, S, S), into (B, P, C) and (B, G)."""
        features = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return ImageFeatures(features["grid"].flatten(2).transpose(1, 2), features["pooled"])

    def _cut(self, model: nn.Module) -> nn.Module:
        nodes = ARCHITECTURES[self.architecture]
        outputs = {nodes.grid_node: "grid", nodes.pooled_node: "pooled"}
        cut: nn.Module = create_feature_extractor(model.eval(), outputs)
        return cut

    def _declare(self) -> FeatureShape:
        size = self.preprocessing.image_size
        try:
            made = self.trunk(torch.empty(1, 3, size, size, device="meta"))
        except RuntimeError as error:
            raise ConfigError(
                f"encoder.image_size={size} is too small for {self.architecture}; use 64 or more."
            ) from error
        _, channels, rows, columns = made["grid"].shape
        return FeatureShape((rows, columns), channels, made["pooled"].shape[1])

    def _imagenet_weights(self) -> WeightsEnum:
        weights = get_model_weights(self.architecture)
        return cast(WeightsEnum, weights["IMAGENET1K_V1"])

    def _identity(self) -> str:
        if self.weights_path is not None:
            with self.weights_path.open("rb") as file:
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if self.weights == "imagenet":
            return "IMAGENET1K_V1"
        return f"random-{self.init_seed}-{self.num_calibration_images}"

    def _find(self, weights: str) -> Path:
        path = Path(weights).expanduser()
        if path.is_dir():
            names = (f"{self.architecture}.pth", f"{self.architecture}-*.pth")
            found = sorted(match for name in names for match in path.glob(name))
            if len(found) == 1:
                return found[0]
            listed = ", ".join(match.name for match in found) or "none"
            raise WeightsError(
                f"encoder.weights: the folder {path} must hold one {names[0]} or {names[1]}; "
                f"found {listed}. Name the file itself, or use imagenet or none."
            )
        if not path.is_file():
            raise WeightsError(
                f"encoder.weights: {weights!r} is no file; "
                "use imagenet, none, or the path of a state dict."
            )
        return path

    def _load(self) -> nn.Module:
        if self.weights == "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.init_seed)
                model: nn.Module = get_model(self.architecture, weights=None)
            _scale_residual_branches(model)
            return model
        state = self._read(self.weights_path) if self.weights_path else self._download()
        with torch.device("meta"):
            model = get_model(self.architecture, weights=None)
        expected = model.state_dict()
        wrong = {
            "missing": [key for key in expected if key not in state],
            "unexpected": [key for key in state if key not in expected],
            "of another shape": [
                key for key in expected if key in state and state[key].shape != expected[key].shape
            ],
        }
        told = [
            f"{len(keys)} keys {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in wrong.items()
            if keys
        ]
        if told:
            raise WeightsError(
                f"encoder.weights: {self.weights_path} does not fit {self.architecture}: "
                f"{'; '.join(told)}. Give the weights of this architecture."
            )
        model.load_state_dict(state, assign=True)
        return model.float()

    def _read(self, path: Path) -> dict[str, Tensor]:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise WeightsError(
                f"encoder.weights: {path} is not a file of tensors that torch.load can read "
                f"safely ({type(error).__name__}); give a state dict saved by torch.save."
            ) from error
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise WeightsError(
                f"encoder.weights: {path} holds no state dict (a dict of tensors by name); "
                "save model.state_dict()."
            )
        return state

    def _download(self) -> dict[str, Tensor]:
        weights = self._imagenet_weights()
        try:
            return dict(weights.get_state_dict(progress=True, check_hash=True))
        except (URLError, OSError, RuntimeError) as error:
            file = weights.url.rsplit("/", 1)[-1]
            raise WeightsError(
                f"encoder.weights=imagenet: {file} could not be downloaded ({error}). "
                f"Put it into {torch.hub.get_dir()}/checkpoints, give its path as "
                "encoder.weights=PATH, or use encoder.weights=none."
            ) from error

    @torch.no_grad()
    def _standardise_layers(self, images: Tensor) -> None:
        """Give every random layer outputs of mean 0 and variance 1 per channel on `images`.

        Without it a deep random network gives all images nearly the same features. Where there is
        batch norm, its statistics do it; elsewhere weights and biases are rescaled.

        Source: Krähenbühl et al. 2016, sec. 3.1; Mishkin & Matas 2016.
        """
        norms = [m for m in self.trunk.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0  # the statistics of this one batch
            norm.train()
        layers = [] if norms else [m for m in self.trunk.modules() if isinstance(m, _LINEAR)]
        hooks = [layer.register_forward_hook(_standardise) for layer in layers]
        self(images)
        for hook in hooks:
            hook.remove()


def _standardise(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Forward hook: rescale `layer` so that `output` has mean 0 and variance 1 per channel."""
    assert isinstance(layer, _LINEAR)
    assert layer.bias is not None
    dims = [0, *range(2, output.dim())]
    mean, std = output.mean(dims), output.std(dims).clamp_min(1e-5)
    layer.bias.sub_(mean).div_(std)
    layer.weight.div_(std.view(-1, *[1] * (layer.weight.dim() - 1)))
    shape = (-1, *[1] * (output.dim() - 2))
    return (output - mean.view(shape)) / std.view(shape)


def _scale_residual_branches(model: nn.Module) -> None:
    """Scale a random ResNet's L residual branches by L ** -0.5, so that depth keeps the image.

    Source: Hayou et al. 2021 (Stable ResNet), sec. 3.
    """
    blocks = [m for m in model.modules() if isinstance(m, BasicBlock | Bottleneck)]
    for block in blocks:
        last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
        nn.init.constant_(last.weight, len(blocks) ** -0.5)
