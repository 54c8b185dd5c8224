"""What every encoder with a file in conf/encoder keeps; a new file is found by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx

from captionlab.encoders import ClassifierEncoder, Encoder, list_encoders, read_encoder
from captionlab.errors import ConfigError
from captionlab.options import options_of
from tests.support.encoders import CPU, blobs

CONF = Path(__file__).parents[2] / "conf" / "encoder"
NAMES = list_encoders(CONF)
# Hundreds of megabytes each, of a kind of which a smaller one is among the rest.
LARGE = {"resnet152", "vgg19"}
every_encoder = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in NAMES]
)


def small(name: str, **options: Any) -> Encoder:
    """The encoder of a file with random weights, at the smallest size of these that fits it."""
    for size in (72, 112):
        try:
            return read_encoder(CONF, name, weights="none", image_size=size, **options)
        except ConfigError:
            continue
    return read_encoder(CONF, name, weights="none", **options)


def test_every_file_is_another_encoder() -> None:
    fingerprints = {read_encoder(CONF, name).fingerprint for name in NAMES}
    assert len(fingerprints) == len(NAMES) > 0


@every_encoder
def test_an_encoder_produces_what_it_declares(name: str) -> None:
    encoder = small(name)
    declared, size = encoder.feature_shape, encoder.preprocessing.image_size
    assert next(encoder.parameters()).is_meta, "declaring must take no memory"
    assert encoder.num_parameters == sum(p.numel() for p in encoder.parameters())
    assert encoder.num_trained_parameters == 0
    assert declared.num_positions >= 4

    images = blobs(4, size)
    encoder.prepare([images], CPU)
    with torch.inference_mode():
        features = encoder(images)
    assert features.grid.shape == (4, declared.num_positions, declared.grid_dim)
    assert features.pooled.shape == (4, declared.pooled_dim)
    alike = torch.corrcoef(features.pooled)[~torch.eye(4, dtype=torch.bool)]
    assert alike.mean() < 0.6, "random weights must tell images apart"

    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.train()
    encoder(images[:2] * 3)
    assert encoder.trained_parameters() == []
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of a frozen encoder drifted"


@every_encoder
def test_every_stage_produces_what_it_declares(name: str) -> None:
    whole = small(name)
    assert isinstance(whole, ClassifierEncoder)
    size, number = whole.preprocessing.image_size, whole.num_stages
    images, layers = blobs(2, size), whole.classifier.build().eval()
    names, num_parameters = set(), 0
    for stage in {1, 2, 3, 4, number}:  # the layers of a transformer are alike
        encoder = read_encoder(CONF, name, weights="none", image_size=size, stage=stage)
        assert isinstance(encoder, ClassifierEncoder)
        declared = encoder.feature_shape
        encoder.trunk = fx.GraphModule(layers, encoder.trunk.graph)  # the same for all stages
        with torch.inference_mode():
            features = encoder(images)
        assert features.grid.shape == (2, declared.num_positions, declared.grid_dim)
        assert features.pooled.shape == (2, declared.pooled_dim)
        assert num_parameters < encoder.num_parameters <= whole.num_parameters, "later layers stay"
        assert encoder.fingerprint not in names
        names.add(encoder.fingerprint)
        num_parameters = encoder.num_parameters
    assert declared.grid_size == whole.feature_shape.grid_size
    with pytest.raises(ConfigError, match=rf"stage={number + 1}, but .* has {number} stages; use"):
        read_encoder(CONF, name, stage=number + 1)


@every_encoder
def test_the_last_stage_alone_is_trained_by_gradients_of_map_or_vector(name: str) -> None:
    """Decoders may look at one of them alone."""
    encoder = small(name, train="last")
    assert "train" in options_of(type(encoder))
    images = blobs(2, encoder.preprocessing.image_size)
    encoder.prepare([images], CPU)
    trained = {key for key, p in encoder.named_parameters() if p.requires_grad}
    assert encoder.num_trained_parameters == sum(p.numel() for p in encoder.trained_parameters())
    assert 0 < encoder.num_trained_parameters < encoder.num_parameters
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    features = encoder.train()(images)
    for output in (features.grid, features.pooled):
        encoder.zero_grad()
        output.float().square().mean().backward(retain_graph=True)
        assert {key for key, p in encoder.named_parameters() if p.grad is not None} == trained
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} drifted, a batch norm's statistics perhaps"

    restored = small(name, train="last")
    restored.load_state_dict(encoder.state_dict(), assign=True)
    with torch.inference_mode():
        torch.testing.assert_close(restored(images).grid, features.grid.detach())
