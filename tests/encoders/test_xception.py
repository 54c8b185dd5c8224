"""Xception, and the published file of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.encoders import XceptionEncoder
from captionlab.encoders.xception import Xception
from captionlab.errors import WeightsError
from tests.support.encoders import CPU


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
