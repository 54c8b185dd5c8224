"""Encoders that take the weights of another, which was prepared."""

from __future__ import annotations

import pytest
import torch

from captionlab.encoders import RestoredEncoder
from tests.support.encoders import CPU, blobs, make_encoder


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("resnet18", 64), ("vgg11", 64), ("googlenet", 64), ("swin_t", 64), ("vit_b_16", None)],
)
def test_restored_weights_give_the_same_features(architecture: str, size: int | None) -> None:
    prepared = make_encoder(architecture, image_size=size)
    images = blobs(2, prepared.preprocessing.image_size)
    prepared.prepare([images], CPU)
    fresh = make_encoder(architecture, image_size=size)
    state = {name: value.contiguous() for name, value in prepared.state_dict().items()}
    restored = RestoredEncoder(fresh, state, prepared.fingerprint, "0123456789abcdef")
    assert restored.fingerprint == f"{prepared.fingerprint}/fitted-0123456789ab"
    assert restored.num_calibration_images == 0
    restored.prepare([], CPU)  # reads nothing
    with torch.inference_mode():
        expected, features = prepared(images), restored(images)
    torch.testing.assert_close(features.grid, expected.grid)
    torch.testing.assert_close(features.pooled, expected.pooled)
    assert not any(parameter.requires_grad for parameter in restored.parameters())


def test_state_of_another_architecture_is_refused() -> None:
    prepared = make_encoder("resnet18", image_size=64)
    prepared.prepare([blobs(2, 64)], CPU)
    with pytest.raises(RuntimeError):
        make_encoder("resnet34", image_size=64).restore(prepared.state_dict())


def test_an_encoder_says_what_it_knows_of_its_weights() -> None:
    assert make_encoder("resnet18").weights_facts["name"] == "random-0-64"
    published = make_encoder("resnet18", weights="imagenet").weights_facts
    assert published["name"] == "resnet18-f37072fd"
    assert published["source"].endswith("/resnet18-f37072fd.pth")
    assert published["licence"].startswith("not stated")
