"""What every encoder keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from captionlab.encoders import TorchvisionEncoder
from captionlab.encoders.torchvision import ARCHITECTURES
from captionlab.errors import ConfigError, WeightsError

CPU = torch.device("cpu")


def pixels(num_images: int, size: int = 64) -> torch.Tensor:
    return torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet18() -> TorchvisionEncoder:
    encoder = TorchvisionEncoder("resnet18", weights="none", image_size=64)
    encoder.prepare([pixels(8), pixels(8) + 0.5], CPU)
    return encoder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_declared_is_produced(architecture: str) -> None:
    encoder = TorchvisionEncoder(architecture, weights="none", image_size=72)
    declared = encoder.feature_shape
    assert next(encoder.parameters()).is_meta, "declaring must cost no memory"
    encoder.prepare([pixels(2, 72)], CPU)
    with torch.inference_mode():
        made = encoder(pixels(2, 72))
    assert made.grid.shape == (2, declared.num_positions, declared.grid_dim)
    assert made.pooled.shape == (2, declared.pooled_dim)
    assert declared.num_positions > 4
    assert sum(p.numel() for p in encoder.parameters()) == encoder.num_parameters


def test_sizes_at_224_are_those_of_the_literature() -> None:
    vgg = TorchvisionEncoder("vgg16", weights="none").feature_shape
    resnet = TorchvisionEncoder("resnet101", weights="none").feature_shape
    assert (vgg.grid_size, vgg.grid_dim, vgg.pooled_dim) == ((14, 14), 512, 4096)
    assert (resnet.grid_size, resnet.grid_dim, resnet.pooled_dim) == ((7, 7), 2048, 2048)


def test_positions_run_row_by_row(resnet18: TorchvisionEncoder) -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :32, 32:] = 3.0  # the top right corner
    with torch.inference_mode():
        change = resnet18(image).grid - resnet18(torch.zeros(1, 3, 64, 64)).grid
    assert int(change.square().sum(-1).argmax()) == 1


def test_frozen_means_no_gradient_and_no_drift(resnet18: TorchvisionEncoder) -> None:
    before = {name: value.clone() for name, value in resnet18.state_dict().items()}
    resnet18.train()
    resnet18(pixels(4) * 3)
    assert not any(parameter.requires_grad for parameter in resnet18.parameters())
    for name, value in resnet18.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("architecture", ["resnet50", "vgg16"])
def test_random_weights_tell_images_apart(architecture: str) -> None:
    encoder = TorchvisionEncoder(architecture, weights="none", image_size=64)
    images = pixels(16)
    encoder.prepare([images], CPU)
    with torch.inference_mode():
        pooled = encoder(images).grid.mean(1)
    cosine = nn.functional.cosine_similarity(pooled[:, None], pooled[None], dim=-1)
    assert cosine.fill_diagonal_(0).max() < 0.99  # 0.9999 without the fitting


def test_how_images_are_batched_for_fitting_changes_nothing() -> None:
    one = TorchvisionEncoder("resnet18", weights="none", image_size=64)
    one.prepare([pixels(8)], CPU)
    other = TorchvisionEncoder("resnet18", weights="none", image_size=64)
    other.prepare(pixels(8).split(3), CPU)
    with torch.inference_mode():
        assert torch.equal(one(pixels(2)).grid, other(pixels(2)).grid)


def test_a_file_of_weights_is_used_and_named_by_its_content(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    (tmp_path / "copy.pth").write_bytes((tmp_path / "resnet18.pth").read_bytes())
    encoder = TorchvisionEncoder("resnet18", weights=str(tmp_path), image_size=64)
    encoder.prepare([], CPU)
    assert torch.equal(encoder.trunk.get_parameter("conv1.weight"), state["conv1.weight"])
    copy = TorchvisionEncoder("resnet18", weights=str(tmp_path / "copy.pth"), image_size=64)
    assert copy.fingerprint == encoder.fingerprint
    assert "none" not in encoder.fingerprint


def test_weights_that_do_not_fit_name_the_keys(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    state = resnet18().state_dict()
    state["extra.weight"] = state.pop("conv1.weight")
    state["bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "bad.pth")
    encoder = TorchvisionEncoder("resnet18", weights=str(tmp_path / "bad.pth"), image_size=64)
    with pytest.raises(WeightsError) as error:
        encoder.prepare([], CPU)
    for told in ("1 keys missing (conv1.weight)", "unexpected (extra.weight)", "(bn1.weight)"):
        assert told in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        TorchvisionEncoder("resnet18", weights=str(path), image_size=64).prepare([], CPU)


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(WeightsError, match=r"encoder\.weights=PATH"):
        TorchvisionEncoder("resnet18", weights="imagenet").prepare([], CPU)


def test_mistakes_are_found_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resnet101"):
        TorchvisionEncoder("resnet99")
    with pytest.raises(ConfigError, match="image_size=8"):
        TorchvisionEncoder("vgg16", weights="none", image_size=8)
    with pytest.raises(WeightsError, match="no file"):
        TorchvisionEncoder("resnet18", weights=str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match="found none"):
        TorchvisionEncoder("resnet18", weights=str(tmp_path))
