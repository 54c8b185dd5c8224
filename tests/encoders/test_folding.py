"""Frozen networks in fewer layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from captionlab.encoders import classifier
from captionlab.encoders.classifier import ClassifierEncoder
from tests.support.encoders import CPU, blobs, make_encoder

SIZE = 96
# With a ReLU behind each residual and with none, and with every activation.
ARCHITECTURES = ["resnet18", "xception", "efficientnet_lite0", "mobilenet_v3_large", "densenet121"]
ARCHITECTURES += ["efficientnet_b0"]


def folded_and_whole(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[ClassifierEncoder, ClassifierEncoder]:
    """Two encoders of equal weights; the layers of the second are left as they are."""
    folded = make_encoder(architecture, image_size=SIZE)
    folded.prepare([blobs(8, SIZE)], CPU)
    monkeypatch.setattr(classifier, "fold_layers", lambda trunk: trunk)
    whole = make_encoder(architecture, image_size=SIZE)
    whole.prepare([blobs(8, SIZE)], CPU)
    return folded, whole


def distance(features: Tensor, expected: Tensor) -> float:
    """Mean difference over mean size."""
    return float((features.float() - expected).abs().mean() / expected.abs().mean())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_that_are_folded_compute_what_they_did(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded, whole = folded_and_whole(architecture, monkeypatch)
    images = blobs(4, SIZE)
    with torch.inference_mode():
        expected, exact = whole(images), folded(images)
        with torch.autocast("cpu", torch.bfloat16):
            layer_by_layer, joined = whole(images), folded(images)
    for name in ("grid", "pooled"):
        wanted = getattr(expected, name)
        assert distance(getattr(exact, name), wanted) < 1e-4, name
        # Rounded less often: no farther from float32, but for chance.
        far = distance(getattr(layer_by_layer, name), wanted)
        assert distance(getattr(joined, name), wanted) < 1.2 * far, name


def test_nothing_is_left_of_a_resnet_but_convolutions_and_pooling() -> None:
    encoder = make_encoder("resnet18", image_size=SIZE)
    encoder.prepare([blobs(8, SIZE)], CPU)
    assert isinstance(encoder.trunk, fx.GraphModule)
    layers = [
        type(encoder.trunk.get_submodule(str(node.target)))
        for node in encoder.trunk.graph.nodes
        if node.op == "call_module"
    ]
    assert layers == [nn.MaxPool2d, nn.AdaptiveAvgPool2d]


def test_gradients_reach_the_image_in_bf16() -> None:
    encoder = make_encoder("resnet18", image_size=SIZE)
    encoder.prepare([blobs(8, SIZE)], CPU)
    images = blobs(2, SIZE).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        encoder(images).grid.float().square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
