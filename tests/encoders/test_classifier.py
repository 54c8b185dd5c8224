"""A classifier cut at its last map and its whole-image vector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from captionlab.encoders.classifier import ClassifierEncoder
from captionlab.encoders.xception import Xception
from captionlab.errors import ConfigError, WeightsError
from captionlab.types import Preprocessing
from tests.support.encoders import CPU, blobs, make_encoder, noise


@pytest.fixture(scope="module")
def resnet18() -> ClassifierEncoder:
    encoder = make_encoder("resnet18", image_size=64)
    encoder.prepare([noise(8), noise(8) + 0.5], CPU)
    return encoder


@pytest.mark.parametrize(("architecture", "size"), [("resnet18", 96), ("vit_b_16", None)])
def test_a_map_is_averaged_to_the_size_asked_for(architecture: str, size: int | None) -> None:
    plain = make_encoder(architecture, image_size=size)
    rows, columns = plain.feature_shape.grid_size
    images = blobs(2, plain.preprocessing.image_size)
    plain.prepare([images], CPU)
    with torch.inference_mode():
        expected = plain(images)
    maps = expected.grid.transpose(1, 2).unflatten(2, (rows, columns))
    for grid_size in (1, 2, rows + 3):
        encoder = make_encoder(architecture, image_size=size, grid_size=grid_size)
        encoder.trunk = plain.trunk
        with torch.inference_mode():
            features = encoder(images)
        assert encoder.feature_shape.grid_size == (grid_size, grid_size)
        assert features.grid.shape == (2, grid_size**2, encoder.feature_shape.grid_dim)
        averaged = nn.functional.adaptive_avg_pool2d(maps, grid_size)
        torch.testing.assert_close(features.grid, averaged.flatten(2).transpose(1, 2))
        torch.testing.assert_close(features.pooled, expected.pooled)


def test_fingerprints_stay_so_that_features_on_disk_keep_their_names() -> None:
    assert make_encoder("resnet18").fingerprint == "resnet18/layer4_1_relu_1/flatten/random-0-64"
    assert make_encoder("resnet18", grid_size=14).fingerprint.endswith("/random-0-64/grid-14")
    third = make_encoder("resnet18", stage=3)
    assert third.fingerprint == "resnet18/layer2_1_relu_1/mean/random-0-64"


@pytest.mark.parametrize(
    "architecture",
    [
        *("resnet18", "resnet50", "vgg16", "inception_v3", "densenet121", "efficientnet_v2_s"),
        *("convnext_tiny", "vit_b_16", "swin_t", "mobilenet_v3_large", "xception"),
    ],
)
def test_preprocessing_and_number_of_parameters_are_those_published(architecture: str) -> None:
    encoder = make_encoder(architecture, pooled="logits")
    assert encoder.feature_shape.pooled_dim == 1000
    if architecture == "xception":
        assert encoder.num_parameters == 22_855_952
        assert encoder.preprocessing == Preprocessing(299, 299, "bilinear", (0.5,) * 3, (0.5,) * 3)
        return
    weights = get_model_weights(architecture)["IMAGENET1K_V1"]
    auxiliary = 3_326_696 if architecture == "inception_v3" else 0  # a head used in training only
    assert encoder.num_parameters == weights.meta["num_params"] - auxiliary
    transform = weights.transforms()
    assert encoder.preprocessing.image_size == transform.crop_size[0]
    assert encoder.preprocessing.mean == tuple(transform.mean)
    assert encoder.preprocessing.interpolation == transform.interpolation.value


@pytest.mark.parametrize(
    ("architecture", "grid_size", "grid_dim", "pooled_dim"),
    [
        ("vgg16", 14, 512, 4096),
        ("resnet101", 7, 2048, 2048),
        ("inception_v3", 8, 2048, 2048),
        ("efficientnet_v2_s", 12, 1280, 1280),
        ("convnext_tiny", 7, 768, 768),
        ("vit_b_16", 14, 768, 768),
        ("swin_t", 7, 768, 768),
        ("xception", 10, 2048, 2048),
        ("alexnet", 13, 256, 4096),
    ],
)
def test_sizes_are_those_of_the_literature(
    architecture: str, grid_size: int, grid_dim: int, pooled_dim: int
) -> None:
    shape = make_encoder(architecture).feature_shape
    assert shape.grid_size == (grid_size, grid_size)
    assert (shape.grid_dim, shape.pooled_dim) == (grid_dim, pooled_dim)


@pytest.mark.parametrize("architecture", ["resnet18", "xception"])
def test_features_are_what_the_whole_classifier_computes(architecture: str, tmp_path: Path) -> None:
    """The logits, from the pooled features through the classifier's own last layer."""
    torch.manual_seed(0)
    whole = Xception() if architecture == "xception" else get_model(architecture, weights=None)
    whole.eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    size = 72
    encoder = make_encoder(architecture, weights=str(tmp_path / "weights.pth"), image_size=size)
    encoder.prepare([], CPU)
    last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    with torch.inference_mode():
        logits = last(encoder(noise(2, size)).pooled)
        torch.testing.assert_close(logits, whole(noise(2, size)), rtol=1e-4, atol=1e-5)


def test_positions_run_row_by_row(resnet18: ClassifierEncoder) -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :32, 32:] = 3.0  # the top right corner
    with torch.inference_mode():
        change = resnet18(image).grid - resnet18(torch.zeros(1, 3, 64, 64)).grid
    assert int(change.square().sum(-1).argmax()) == 1


def test_the_class_token_is_no_position() -> None:
    class Counting(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"grid": torch.arange(197.0).view(1, 197, 1), "pooled": torch.zeros(1, 1)}

    encoder = make_encoder("vit_b_16")
    encoder.trunk = Counting()
    assert encoder(noise(1)).grid.flatten().tolist() == list(range(1, 197))


def test_preparing_twice_gives_the_same_features(resnet18: ClassifierEncoder) -> None:
    twice = make_encoder("resnet18", image_size=64)
    for _ in range(2):
        twice.prepare([noise(8), noise(8) + 0.5], CPU)
    with torch.inference_mode():
        torch.testing.assert_close(twice(noise(2)).grid, resnet18(noise(2)).grid)


def test_the_sizes_of_calibration_batches_do_not_matter() -> None:
    one = make_encoder("resnet18", image_size=64)
    one.prepare([noise(8)], CPU)
    other = make_encoder("resnet18", image_size=64)
    other.prepare(noise(8).split(3), CPU)
    with torch.inference_mode():
        torch.testing.assert_close(one(noise(2)).grid, other(noise(2)).grid)


def test_mistakes_are_errors_before_any_weight_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resnet101"):
        make_encoder("resnet99")
    with pytest.raises(ConfigError, match=r"linear layer.*use encoder\.pooled=logits"):
        make_encoder("squeezenet1_1")
    with pytest.raises(ValueError, match="pooled='mean' is unknown; use features or logits"):
        make_encoder("xception", pooled="mean")
    for architecture, size in (("vgg16", 8), ("vit_b_16", 256), ("xception", 4), ("vgg16", 0)):
        with pytest.raises(ConfigError, match=f"image_size={size} does not fit {architecture}"):
            make_encoder(architecture, image_size=size)
    with pytest.raises(WeightsError, match="no file"):
        make_encoder("resnet18", weights=str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match="found none"):
        make_encoder("resnet18", weights=str(tmp_path))


def test_a_network_that_cannot_be_built_on_the_meta_device_is_an_encoder_too() -> None:
    """Torchvision's RegNet computes its widths with tensors."""
    encoder = make_encoder("regnet_y_400mf", image_size=64)
    encoder.prepare([blobs(2, 64)], CPU)
    with torch.inference_mode():
        assert encoder(blobs(2, 64)).grid.shape == (2, 4, encoder.feature_shape.grid_dim)
