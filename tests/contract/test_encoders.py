"""What every encoder keeps."""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn
from torchvision.models import get_model, get_model_weights

from captionlab.encoders import TorchvisionEncoder, XceptionEncoder, xception
from captionlab.encoders.classifier import ClassifierEncoder
from captionlab.encoders.stages import find_stages
from captionlab.encoders.xception import Xception
from captionlab.errors import ConfigError, WeightsError
from captionlab.types import Preprocessing

CPU = torch.device("cpu")
# Every kind of network that ships, at a size that is quick; None where only its own goes through.
SIZES: dict[str, int | None] = {
    "resnet18": 72,
    "resnet50": 72,
    "vgg16": 72,
    "inception_v3": 107,
    "densenet121": 72,
    "efficientnet_v2_s": 72,
    "convnext_tiny": 72,
    "vit_b_16": None,
    "swin_t": 72,
    "mobilenet_v3_large": 72,
    "regnet_y_400mf": 72,
    "xception": 72,
}
encoders = pytest.mark.parametrize("architecture", SIZES)
# How many stages each has, and the first and the last parameter of the last one.
STAGES = {
    "resnet18": (5, "layer4.0.conv1.weight", "layer4.1.bn2.bias"),
    "resnet50": (5, "layer4.0.conv1.weight", "layer4.2.bn3.bias"),
    "vgg16": (5, "features.24.weight", "features.28.bias"),
    "inception_v3": (5, "Mixed_7a.branch3x3_1.conv.weight", "Mixed_7c.branch_pool.bn.bias"),
    "densenet121": (5, "features.denseblock4.denselayer1.norm1.weight", "features.norm5.bias"),
    "efficientnet_v2_s": (5, "features.6.0.block.1.0.weight", "features.7.1.bias"),
    "convnext_tiny": (4, "features.6.1.weight", "features.7.2.block.5.bias"),
    "vit_b_16": (13, "encoder.layers.encoder_layer_11.ln_1.weight", "encoder.ln.bias"),
    "swin_t": (4, "features.6.norm.weight", "norm.bias"),
    "mobilenet_v3_large": (5, "features.13.block.1.0.weight", "features.16.1.bias"),
    "regnet_y_400mf": (
        5,
        "trunk_output.block4.block4-0.proj.0.weight",
        "trunk_output.block4.block4-5.f.c.1.bias",
    ),
    "xception": (5, "block12.rep.1.conv1.weight", "bn4.bias"),
}


def made(architecture: str, **options: Any) -> ClassifierEncoder:
    """An encoder with random weights unless told otherwise."""
    options = {"weights": "none", **options}
    if architecture == "xception":
        return XceptionEncoder(**options)
    return TorchvisionEncoder(architecture, **options)


def pixels(num_images: int, size: int = 64) -> torch.Tensor:
    return torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(0))


def blobs(num_images: int, size: int) -> torch.Tensor:
    """Images that differ as photos do: in their coarse colours."""
    return nn.functional.interpolate(pixels(num_images, 4), (size, size), mode="bilinear")


@pytest.fixture(scope="module")
def resnet18() -> ClassifierEncoder:
    encoder = made("resnet18", image_size=64)
    encoder.prepare([pixels(8), pixels(8) + 0.5], CPU)
    return encoder


@encoders
def test_an_encoder_keeps_its_word(architecture: str) -> None:
    encoder = made(architecture, image_size=SIZES[architecture])
    declared, size = encoder.feature_shape, encoder.preprocessing.image_size
    assert next(encoder.parameters()).is_meta, "declaring must cost no memory"
    assert encoder.num_parameters == sum(p.numel() for p in encoder.parameters())

    images = blobs(4, size)
    encoder.prepare([images], CPU)
    with torch.inference_mode():
        features = encoder(images)
    assert features.grid.shape == (4, declared.num_positions, declared.grid_dim)
    assert features.pooled.shape == (4, declared.pooled_dim)
    assert declared.num_positions >= 4

    # random weights tell images apart
    alike = torch.corrcoef(features.pooled)[~torch.eye(4, dtype=torch.bool)]
    assert alike.mean() < 0.6

    # frozen means no gradient and no drift
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    encoder(images[:2] * 3)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


@encoders
def test_a_stage_is_what_works_at_one_resolution(architecture: str) -> None:
    encoder = made(architecture)
    trunk, number = encoder.trunk, STAGES[architecture][0]
    assert isinstance(trunk, fx.GraphModule)
    (output,) = trunk.graph.find_nodes(op="output")
    found = find_stages(trunk, output.args[0]["grid"], encoder.preprocessing.image_size)
    assert (len(found), found[-1][0], found[-1][-1]) == STAGES[architecture]
    names = [name for stage in found for name in stage]
    assert len(names) == len(set(names))
    assert set(names) <= {name for name, _ in trunk.named_parameters()}
    with pytest.raises(ConfigError, match=f"train={number + 1}, but .* has {number} stages"):
        made(architecture, train=str(number + 1))


def test_three_stages_of_a_resnet_begin_with_its_second_block() -> None:
    encoder = made("resnet101", train="3", image_size=64)
    encoder.prepare([pixels(4)], CPU)
    layers = {n.split(".")[0] for n, p in encoder.trunk.named_parameters() if p.requires_grad}
    assert layers == {"layer2", "layer3", "layer4"}
    assert encoder.num_trained_parameters == sum(p.numel() for p in encoder.trained_parameters())


@encoders
def test_the_last_stage_alone_is_trained(architecture: str) -> None:
    """By gradients of the map and of the vector, for decoders may look at one of them alone."""
    encoder = made(architecture, image_size=SIZES[architecture], train="last")
    images = blobs(2, encoder.preprocessing.image_size)
    encoder.prepare([images], CPU)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encoder.train()(images)
    for made_of in (features.grid, features.pooled):
        encoder.zero_grad()
        made_of.float().square().mean().backward(retain_graph=True)
        with_gradient = [n for n, p in encoder.trunk.named_parameters() if p.grad is not None]
        assert with_gradient == [n for n, p in encoder.trunk.named_parameters() if p.requires_grad]
        assert with_gradient[0].split(".")[0] == STAGES[architecture][1].split(".")[0]
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("architecture", ["vgg16", "convnext_tiny", "swin_t"])
def test_all_is_all_up_to_the_map(architecture: str) -> None:
    encoder = made(architecture, image_size=SIZES[architecture], train="all")
    images = blobs(2, encoder.preprocessing.image_size)
    encoder.prepare([images], CPU)
    encoder(images).grid.square().mean().backward()
    without = {n for n, p in encoder.trunk.named_parameters() if p.grad is None}
    assert without == {n for n, p in encoder.trunk.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name in without} <= {"classifier"}, "behind the map"


def test_nothing_is_kept_of_frozen_stages() -> None:
    def kept(train: str) -> list[int]:
        encoder = made("resnet18", image_size=64, train=train)
        encoder.prepare([pixels(4)], CPU)
        sides: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dim() == 4 and tensor.shape[0] == 4:  # of the images
                sides.append(tensor.shape[-1])
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            encoder(pixels(4))
        return sides

    assert max(kept("last")) == 4, "what the last stage reads"
    assert max(kept("all")) == 64


def test_a_trained_encoder_begins_as_the_frozen_one() -> None:
    frozen, trained = (made("resnet18", image_size=64, train=train) for train in ("none", "all"))
    for encoder in (frozen, trained):
        encoder.prepare([pixels(8)], CPU)
    with torch.inference_mode():
        one, other = frozen(pixels(2)), trained(pixels(2))
    torch.testing.assert_close(one.grid, other.grid, rtol=1e-4, atol=1e-5)
    assert frozen.fingerprint == trained.fingerprint
    assert frozen.num_trained_parameters == 0
    assert trained.num_trained_parameters == trained.num_parameters


@pytest.mark.parametrize("train", ["first", "0", "-1", "1.5", ""])
def test_what_cannot_be_trained_is_told(train: str) -> None:
    with pytest.raises(ConfigError, match="unknown; use none, last, all, or a number") as error:
        made("resnet18", train=train)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("architecture", "size"), [("resnet18", 96), ("vit_b_16", None)])
def test_a_map_is_averaged_to_the_size_asked_for(architecture: str, size: int | None) -> None:
    plain = made(architecture, image_size=size)
    rows, columns = plain.feature_shape.grid_size
    images = blobs(2, plain.preprocessing.image_size)
    plain.prepare([images], CPU)
    with torch.inference_mode():
        expected = plain(images)
    maps = expected.grid.transpose(1, 2).unflatten(2, (rows, columns))
    for grid_size in (1, 2, rows + 3):
        encoder = made(architecture, image_size=size, grid_size=grid_size)
        encoder.trunk = plain.trunk
        with torch.inference_mode():
            features = encoder(images)
        assert encoder.feature_shape.grid_size == (grid_size, grid_size)
        assert features.grid.shape == (2, grid_size**2, encoder.feature_shape.grid_dim)
        averaged = nn.functional.adaptive_avg_pool2d(maps, grid_size)
        torch.testing.assert_close(features.grid, averaged.flatten(2).transpose(1, 2))
        assert torch.equal(features.pooled, expected.pooled)


def test_the_names_of_features_on_disk_stay() -> None:
    assert made("resnet18").fingerprint == "resnet18/layer4_1_relu_1/flatten/random-0-64"
    assert made("resnet18", grid_size=14).fingerprint.endswith("/random-0-64/grid-14")


@encoders
def test_preprocessing_and_number_of_parameters_are_those_published(architecture: str) -> None:
    encoder = made(architecture, pooled="logits")
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
    shape = made(architecture).feature_shape
    assert shape.grid_size == (grid_size, grid_size)
    assert (shape.grid_dim, shape.pooled_dim) == (grid_dim, pooled_dim)


@pytest.mark.parametrize("architecture", ["resnet18", "xception"])
def test_features_are_what_the_whole_classifier_computes(architecture: str, tmp_path: Path) -> None:
    """The logits, from the pooled features through the classifier's own last layer."""
    torch.manual_seed(0)
    whole = Xception() if architecture == "xception" else get_model(architecture, weights=None)
    whole.eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    size = SIZES[architecture] or 224
    encoder = made(architecture, weights=str(tmp_path / "weights.pth"), image_size=size)
    encoder.prepare([], CPU)
    last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    with torch.inference_mode():
        found = last(encoder(pixels(2, size)).pooled)
        torch.testing.assert_close(found, whole(pixels(2, size)), rtol=1e-4, atol=1e-5)


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

    encoder = made("vit_b_16")
    encoder.trunk = Counting()
    assert encoder(pixels(1)).grid.flatten().tolist() == list(range(1, 197))


def test_preparing_twice_gives_the_same(resnet18: ClassifierEncoder) -> None:
    twice = made("resnet18", image_size=64)
    for _ in range(2):
        twice.prepare([pixels(8), pixels(8) + 0.5], CPU)
    with torch.inference_mode():
        assert torch.equal(twice(pixels(2)).grid, resnet18(pixels(2)).grid)


def test_how_images_are_batched_for_fitting_changes_nothing() -> None:
    one = TorchvisionEncoder("resnet18", weights="none", image_size=64)
    one.prepare([pixels(8)], CPU)
    other = TorchvisionEncoder("resnet18", weights="none", image_size=64)
    other.prepare(pixels(8).split(3), CPU)
    with torch.inference_mode():
        assert torch.equal(one(pixels(2)).grid, other(pixels(2)).grid)


def test_a_file_of_weights_is_used_and_named_by_its_content(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    (tmp_path / "copy.pth").write_bytes((tmp_path / "resnet18.pth").read_bytes())
    encoder = TorchvisionEncoder("resnet18", weights=str(tmp_path), image_size=64)
    copy = TorchvisionEncoder("resnet18", weights=str(tmp_path / "copy.pth"), image_size=64)
    assert copy.fingerprint == encoder.fingerprint
    torch.save(resnet18().state_dict(), tmp_path / "copy.pth")
    other = TorchvisionEncoder("resnet18", weights=str(tmp_path / "copy.pth"), image_size=64)
    named = [made("resnet18", **given) for given in ({}, {"init_seed": 1}, {"weights": "imagenet"})]
    logits = made("resnet18", pooled="logits")
    assert len({each.fingerprint for each in (encoder, other, *named, logits)}) == 6


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


def published_xception() -> dict[str, torch.Tensor]:
    """Made-up weights under the names of the published file, which knows no batch counters."""
    torch.manual_seed(0)
    state = Xception().state_dict()
    return {key: value for key, value in state.items() if "num_batches" not in key}


def test_xception_has_the_names_and_shapes_of_the_published_file() -> None:
    state = published_xception()
    shapes = {
        "conv1.weight": (32, 3, 3, 3),
        "conv2.weight": (64, 32, 3, 3),
        "bn2.running_var": (64,),
        "block1.rep.0.conv1.weight": (64, 1, 3, 3),
        "block1.rep.0.pointwise.weight": (128, 64, 1, 1),
        "block1.rep.4.running_mean": (128,),
        "block1.skip.weight": (128, 64, 1, 1),
        "block1.skipbn.bias": (128,),
        "block2.rep.1.conv1.weight": (128, 1, 3, 3),
        "block3.rep.4.pointwise.weight": (728, 728, 1, 1),
        "block11.rep.7.pointwise.weight": (728, 728, 1, 1),
        "block11.rep.8.weight": (728,),
        "block12.rep.1.pointwise.weight": (728, 728, 1, 1),
        "block12.rep.4.pointwise.weight": (1024, 728, 1, 1),
        "block12.skip.weight": (1024, 728, 1, 1),
        "conv3.conv1.weight": (1024, 1, 3, 3),
        "conv4.pointwise.weight": (2048, 1536, 1, 1),
        "bn4.weight": (2048,),
        "fc.weight": (1000, 2048),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert len(state) == 236
    assert {name.split(".")[0] for name in state} == {
        *(f"block{i}" for i in range(1, 13)),
        *(f"{kind}{i}" for kind in ("conv", "bn") for i in range(1, 5)),
        "fc",
    }


@pytest.mark.parametrize("classifier", ["fc", "last_linear"])
def test_xception_loads_both_forms_of_the_published_file(tmp_path: Path, classifier: str) -> None:
    state = published_xception()
    torch.save(
        {key.replace("fc", classifier): value for key, value in state.items()},
        tmp_path / "xception-0.pth",
    )
    encoder = XceptionEncoder(str(tmp_path), image_size=72, pooled="logits")
    encoder.prepare([], CPU)
    assert torch.equal(encoder.trunk.get_parameter("fc.weight"), state["fc.weight"])


def test_a_download_is_checked_against_the_hash_in_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    torch.save(published_xception(), tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()[:9]
    (tmp_path / "weights").rename(tmp_path / f"good-{digest}.pth")
    (tmp_path / "bad-43020ad28.pth").write_bytes(b"forged")
    for file, outcome in (
        ("bad-43020ad28.pth", pytest.raises(WeightsError, match="invalid hash")),
        (f"good-{digest}.pth", nullcontext()),
    ):
        monkeypatch.setattr(xception, "_URL", (tmp_path / file).as_uri())
        encoder = XceptionEncoder(image_size=72)
        with outcome:
            encoder.prepare([], CPU)
    kept = tmp_path / "cache" / "hub" / "checkpoints"
    assert [path.name for path in kept.iterdir()] == [f"good-{digest}.pth"]


def test_weights_of_xception_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    state = published_xception()
    state["fc.weight"] = torch.zeros(2, 2048)
    del state["bn1.weight"]
    torch.save(state, tmp_path / "two_classes.pth")
    encoder = XceptionEncoder(str(tmp_path / "two_classes.pth"), image_size=72)
    with pytest.raises(WeightsError) as error:
        encoder.prepare([], CPU)
    assert "two_classes.pth does not fit xception: " in str(error.value)
    assert "1 keys missing (bn1.weight); 1 keys of another shape (fc.weight)" in str(error.value)
    assert "\n" not in str(error.value)


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
    made("densenet121", weights=str(tmp_path), image_size=72).prepare([], CPU)


def test_mistakes_are_found_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resnet101"):
        made("resnet99")
    with pytest.raises(ConfigError, match="no IMAGENET1K_V1"):
        made("vit_h_14")
    with pytest.raises(ConfigError, match=r"linear layer.*use encoder\.pooled=logits"):
        made("squeezenet1_1")
    with pytest.raises(ConfigError, match="pooled=mean is unknown; use features or logits"):
        made("xception", pooled="mean")
    for architecture, size in (("vgg16", 8), ("vit_b_16", 256), ("xception", 4)):
        with pytest.raises(ConfigError, match=f"image_size={size} does not .* {architecture}"):
            made(architecture, image_size=size)
    with pytest.raises(WeightsError, match="no file"):
        TorchvisionEncoder("resnet18", weights=str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match="found none"):
        TorchvisionEncoder("resnet18", weights=str(tmp_path))
