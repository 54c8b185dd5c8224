"""Stages of a network, and how many of them are trained."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from captionlab.encoders.stages import find_stages
from captionlab.errors import ConfigError
from tests.support.encoders import CPU, blobs, make_encoder, noise

# How many stages each kind of network has, and the first and the last parameter of the last one.
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
    "efficientnet_lite0": (5, "_blocks.11._depthwise_conv.weight", "_bn1.bias"),
    "xception": (5, "block12.rep.1.conv1.weight", "bn4.bias"),
}


@pytest.mark.parametrize("architecture", STAGES)
def test_a_stage_is_the_layers_of_one_resolution(architecture: str) -> None:
    encoder = make_encoder(architecture)
    trunk, number = encoder.trunk, STAGES[architecture][0]
    assert isinstance(trunk, fx.GraphModule)
    (output,) = trunk.graph.find_nodes(op="output")
    stages = find_stages(trunk, output.args[0]["grid"], encoder.preprocessing.image_size)
    last = stages[-1].parameters
    assert (len(stages), last[0], last[-1]) == STAGES[architecture]
    names = [name for stage in stages for name in stage.parameters]
    assert len(names) == len(set(names))
    assert set(names) <= {name for name, _ in trunk.named_parameters()}
    with pytest.raises(ConfigError, match=f"train={number + 1}, but .* has {number} stages"):
        make_encoder(architecture, train=number + 1)


@pytest.mark.parametrize(
    ("architecture", "stage", "layer"),
    [
        ("resnet18", 1, "relu"),
        ("resnet18", 3, "layer2"),
        ("resnet50", 4, "layer3"),
        ("vgg16", 3, "features.15"),  # conv3_3, before the pooling
        ("vgg16", 5, "features.29"),  # conv5_3: Xu et al. 2015, sec. 4.3
        ("inception_v3", 3, "Mixed_5d"),
        ("densenet121", 2, "features.denseblock1"),
        ("efficientnet_v2_s", 3, "features.3"),  # not the widened map inside the next block
        ("mobilenet_v3_large", 4, "features.12"),
        ("xception", 4, "block11"),
        ("convnext_tiny", 2, "features.4.0"),  # normalised, as the next stage reads it
        ("swin_t", 2, "features.3"),
        ("vit_b_16", 4, "encoder.layers.encoder_layer_2"),  # stage 1 cuts the patches
    ],
)
def test_the_map_of_a_stage_is_what_its_last_layer_gives(
    architecture: str, stage: int, layer: str
) -> None:
    size = 72 if architecture in ("resnet18", "resnet50", "vgg16", "swin_t") else None
    encoder = make_encoder(architecture, stage=stage, image_size=size)
    torch.manual_seed(0)
    whole = encoder.classifier.build().eval()
    kept = dict(whole.named_modules())
    encoder.trunk = fx.GraphModule(kept[""], encoder.trunk.graph)
    images = noise(1, encoder.preprocessing.image_size)
    outputs: list[torch.Tensor] = []
    kept[layer].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.inference_mode():
        features = encoder(images)
        outputs.clear()
        whole(images)
    (output,) = outputs
    rows, columns = encoder.feature_shape.grid_size
    if output.dim() == 3:
        expected = output[:, 1:]  # without the class token
    elif output.shape[2] == output.shape[3] == rows:
        expected = output.flatten(2).transpose(1, 2)
    else:
        expected = output.flatten(1, 2)  # channels last
    # channels last, the convolutions round otherwise
    largest = float(expected.abs().max())
    torch.testing.assert_close(features.grid, expected, rtol=1e-3, atol=1e-5 * largest)
    torch.testing.assert_close(features.pooled, features.grid.mean(1))
    assert (rows * columns, encoder.feature_shape.grid_dim) == expected.shape[1:]


def test_stages_up_to_the_map_are_trained() -> None:
    """Those behind it are not there."""
    for architecture in ("resnet18", "densenet121"):
        encoder = make_encoder(architecture, image_size=64, stage=3, train="last")
        encoder.prepare([noise(2)], CPU)
        encoder(noise(2)).grid.square().mean().backward()
        trained = {name for name, p in encoder.trunk.named_parameters() if p.requires_grad}
        assert trained == {n for n, p in encoder.trunk.named_parameters() if p.grad is not None}
        assert 0 < encoder.num_trained_parameters < encoder.num_parameters
        with pytest.raises(ConfigError, match=r"train=4, but .* has 3 stages up to its map"):
            make_encoder(architecture, stage=3, train=4)


def test_scores_of_classes_are_refused_where_a_stage_cuts_them_off() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.pooled=logits .* encoder\.stage=3 cuts short"):
        make_encoder("resnet18", stage=3, pooled="logits")


@pytest.mark.parametrize("stage", [0, 6])
def test_a_stage_that_is_not_there_is_refused(stage: int) -> None:
    with pytest.raises((ConfigError, ValueError), match=rf"stage={stage}\b.* at (least 1|most)"):
        make_encoder("resnet18", stage=stage)


def test_three_stages_of_a_resnet_begin_with_its_second_block() -> None:
    encoder = make_encoder("resnet101", train=3, image_size=64)
    encoder.prepare([noise(4)], CPU)
    layers = {n.split(".")[0] for n, p in encoder.trunk.named_parameters() if p.requires_grad}
    assert layers == {"layer2", "layer3", "layer4"}
    assert encoder.num_trained_parameters == sum(p.numel() for p in encoder.trained_parameters())


@pytest.mark.parametrize("architecture", ["vgg16", "convnext_tiny", "swin_t"])
def test_all_trains_every_layer_up_to_the_map(architecture: str) -> None:
    encoder = make_encoder(architecture, image_size=72, train="all")
    images = blobs(2, encoder.preprocessing.image_size)
    encoder.prepare([images], CPU)
    encoder(images).grid.square().mean().backward()
    without = {n for n, p in encoder.trunk.named_parameters() if p.grad is None}
    assert without == {n for n, p in encoder.trunk.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name in without} <= {"classifier"}, "behind the map"


def test_no_activation_of_frozen_stages_is_saved_for_the_backward_pass() -> None:
    def saved(train: str) -> list[int]:
        """Sides of the maps that the backward pass would read."""
        encoder = make_encoder("resnet18", image_size=64, train=train)
        encoder.prepare([noise(4)], CPU)
        sides: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dim() == 4 and tensor.shape[0] == 4:  # of the images
                sides.append(tensor.shape[-1])
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            encoder(noise(4))
        return sides

    assert max(saved("last")) == 4, "what the last stage reads"
    assert max(saved("all")) == 64


def test_a_trained_encoder_begins_as_the_frozen_one() -> None:
    frozen, trained = (
        make_encoder("resnet18", image_size=64, train=train) for train in ("none", "all")
    )
    for encoder in (frozen, trained):
        encoder.prepare([noise(8)], CPU)
    with torch.inference_mode():
        one, other = frozen(noise(2)), trained(noise(2))
    # folded batch norms round otherwise
    torch.testing.assert_close(one.grid, other.grid, rtol=1e-4, atol=1e-5)
    assert frozen.fingerprint == trained.fingerprint
    assert frozen.num_trained_parameters == 0
    assert trained.num_trained_parameters == trained.num_parameters


def test_a_number_of_stages_may_be_text_as_older_runs_have_it() -> None:
    one, other = (make_encoder("resnet18", train=train) for train in (2, "2"))
    assert one.num_trained_parameters == other.num_trained_parameters > 0


@pytest.mark.parametrize("train", [0, -1, "0", "first"])
def test_another_number_or_word_would_train_nothing_and_is_refused(train: int | str) -> None:
    with pytest.raises(ValueError, match=r"at least 1|first"):
        make_encoder("resnet18", train=train)
