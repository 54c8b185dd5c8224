"""Every published system that ships as `experiment=NAME` is that system, and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.config import build
from captionlab.config.checks import check
from captionlab.runs.engine import execute
from captionlab.runs.folder import RunFolder
from tests.config.test_configs import OPTIONS, composed

RECIPES = {  # and their data
    "merge_vgg": "flickr8k",
    "merge_xception": "flickr8k",
    "preinject_resnet18_coco": "coco",
    "preinject_resnet50_coco": "coco",
    "show_and_tell": "coco",
    "show_attend_tell": "flickr8k",
    "where_to_put_the_image": "flickr8k",
}
CPU = build.Machine(torch.device("cpu"), None)


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def lstm(inputs: int, hidden: int) -> int:
    """With two bias vectors, as torch has it."""
    return 4 * hidden * (inputs + hidden + 2)


PUBLISHED = [
    # Where the published sum is Keras's or TensorFlow's, a second bias of each gate is added.
    ("merge_vgg", (), 4182, 1_377_783 + 4 * 47),
    ("merge_xception", (), 6883, 4_646_627 + 4 * 256),
    ("merge_xception", ("data=flickr30k",), 17_936, 10_316_816 + 4 * 256),
    (  # words, image, its batch norm, LSTM, vocabulary
        "preinject_resnet18_coco",
        (),
        8791,
        8791 * 100 + linear(512, 100) + 2 * 100 + lstm(100, 512) + linear(512, 8791),
    ),
    (  # words, image, LSTM, vocabulary
        "preinject_resnet50_coco",
        (),
        8791,
        8791 * 300 + linear(2048, 300) + lstm(300, 512) + linear(512, 8791),
    ),
    (  # words, image (im2txt has no bias there: 512 more), LSTM, vocabulary
        "show_and_tell",
        (),
        12_000,
        12_000 * 512 + (2048 * 512 + 512) + lstm(512, 512) + linear(512, 12_000),
    ),
    # Their sizes, and what their code prints, less a learned initial state.
    (
        "where_to_put_the_image",
        ("conditioning=init_inject", "decoder.hidden_dim=512"),
        2539,
        6_274_539 + 3 * 512,
    ),
    (
        "where_to_put_the_image",
        ("conditioning=pre_inject", "decoder.hidden_dim=512"),
        2539,
        6_274_539 + 3 * 512,
    ),
    (
        "where_to_put_the_image",
        ("conditioning=par_inject", "decoder.hidden_dim=256"),
        2539,
        2_942_187 + 3 * 256 - 256,
    ),
    (
        "where_to_put_the_image",
        ("conditioning=merge_concatenate", "decoder.hidden_dim=128"),
        2539,
        1_600_747 + 3 * 128 - 128,
    ),
]


def test_every_recipe_is_tried_here() -> None:
    shipped = {option.removeprefix("experiment=") for option in OPTIONS if "experiment=" in option}
    assert shipped - {"none"} == RECIPES.keys()


@pytest.mark.parametrize(("recipe", "overrides", "vocabulary_size", "expected"), PUBLISHED)
def test_a_recipe_has_the_parameters_of_its_system(
    recipe: str, overrides: tuple[str, ...], vocabulary_size: int, expected: int
) -> None:
    config = composed(f"experiment={recipe}", f"data={RECIPES[recipe]}", *overrides)
    encoder = build.build_data(config, CPU).encoder
    assert encoder is not None
    decoder = build.build_decoder(config, encoder.feature_shape, vocabulary_size)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_changes_nothing_that_a_recipe_sets(recipe: str) -> None:
    drawn, real = (
        composed(f"experiment={recipe}", f"data={data}") for data in ("shapes", RECIPES[recipe])
    )
    check(real)
    for key in ("min_count", "batch_size", "stored_features"):
        if recipe != "merge_vgg" or key != "batch_size":  # which it does not tell
            assert drawn.data[key] == real.data[key], key
    for group in ("decoder", "conditioning", "search", "optimizer", "schedule"):
        assert drawn[group] == real[group], group
    assert (drawn.encoder.weights, real.encoder.weights) == ("none", "imagenet")
    assert drawn.name == f"{recipe}-shapes"


def test_the_command_line_has_the_last_word() -> None:
    changed = composed("experiment=show_attend_tell", "decoder=gru", "data.batch_size=2")
    assert changed.decoder.cell == "gru"
    assert changed.decoder.hidden_dim == 512
    assert changed.data.batch_size == 2
    check(composed("experiment=show_attend_tell", "encoder=vgg", "objective=scheduled_sampling"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_on_the_embedded_data(recipe: str, tmp_path: Path) -> None:
    config = composed(
        f"experiment={recipe}",
        f"cache_dir={tmp_path}/data",
        "data.num_train=12",
        "data.num_val=4",
        "data.num_test=4",
        "data.num_workers=0",
        "encoder.image_size=76",
        "search.max_length=6",
        "trainer.max_epochs=1",
    )
    check(config)
    result = execute(config, RunFolder(tmp_path / "run"))
    assert result["epochs"] == 1
    assert result["scores"].keys() >= {"bleu_4", "cider_d"}
