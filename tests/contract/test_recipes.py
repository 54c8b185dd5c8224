"""Every published system that ships as `experiment=NAME` is that system, and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from captionlab.captioner.parts import build_decoder, build_encoder
from captionlab.config.checks import check_values, plain_config
from captionlab.runs.engine import execute
from captionlab.runs.folder import RunFolder
from captionlab.text import Vocabulary
from tests.e2e.test_commands import run
from tests.support.configs import CONF, OPTIONS, checked, composed

RECIPES = {  # and their data
    "merge_vgg": "flickr8k",
    "merge_xception": "flickr8k",
    "preinject_resnet18_coco": "coco",
    "preinject_resnet50_coco": "coco",
    "show_and_tell": "coco",
    "show_attend_tell": "flickr8k",
    "where_to_put_the_image": "flickr8k",
}


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
    (  # words, map, state, score (ours: without its bias), gate, first states, LSTM, vocabulary
        "show_attend_tell",
        (),
        9490,
        9490 * 512
        + (linear(2048, 512) + linear(512, 512) + linear(512, 1) - 1 + linear(512, 2048))
        + 2 * linear(2048, 512)
        + (lstm(512 + 2048, 512) + linear(512, 9490)),
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
    assert shipped - {"none", "quick"} == RECIPES.keys()


@pytest.mark.parametrize(("recipe", "overrides", "vocabulary_size", "expected"), PUBLISHED)
def test_a_recipe_has_the_parameters_of_its_system(
    recipe: str, overrides: tuple[str, ...], vocabulary_size: int, expected: int
) -> None:
    config = plain_config(composed(f"experiment={recipe}", f"data={RECIPES[recipe]}", *overrides))
    words = [f"word{i}" for i in range(vocabulary_size - 4)]
    vocabulary = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", *words])
    decoder = build_decoder(config, build_encoder(config).feature_shape, vocabulary)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_changes_nothing_that_a_recipe_sets(recipe: str) -> None:
    drawn, real = (
        composed(f"experiment={recipe}", f"data={data}") for data in ("shapes", RECIPES[recipe])
    )
    check_values(plain_config(real))
    for key in ("min_count", "batch_size", "stored_features"):
        if recipe != "merge_vgg" or key != "batch_size":  # which it does not tell
            assert drawn.data[key] == real.data[key], key
    for group in ("decoder", "conditioning", "search", "optimizer", "schedule"):
        assert drawn[group] == real[group], group
    assert (drawn.encoder.weights, real.encoder.weights) == ("none", "imagenet")
    assert drawn.name == f"{recipe}-shapes"


def test_the_command_line_has_the_last_word() -> None:
    changed = composed(
        "experiment=show_attend_tell", "decoder=gru", "data.batch_size=2", "callbacks=none"
    )
    assert changed.decoder.cell == "gru"
    assert changed.decoder.hidden_dim == 512
    assert changed.data.batch_size == 2
    assert not changed.callbacks
    checked("experiment=show_attend_tell", "encoder=vgg", "objective=scheduled_sampling")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_on_the_embedded_data(recipe: str, tmp_path: Path) -> None:
    config = checked(
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
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        result = execute(config, folder)
    assert result is not None
    assert result.num_images == 4
    assert result.scores.keys() >= {"bleu_4", "cider_d"}


def test_where_to_put_the_image_sweeps_over_the_four_places() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["experiment=where_to_put_the_image"]
        config = compose("config", overrides=overrides, return_hydra_config=True)
    places = config.hydra.sweeper.params.conditioning.split(",")
    kinds = [composed(*overrides, f"conditioning={place}").conditioning for place in places]
    assert [kind._target_.rpartition(".")[2] for kind in kinds] == [
        "InitInjectConditioning",
        "PreInjectConditioning",
        "ParInjectConditioning",
        "MergeConditioning",
    ]
    assert (kinds[3].combine, kinds[3].dense) == ("concatenate", False)


@pytest.mark.slow
def test_a_sweep_of_an_experiment_takes_more_from_the_command_line(tmp_path: Path) -> None:
    options = ("experiment=where_to_put_the_image", "encoder=resnet18", "search.max_length=6")
    swept = run(tmp_path, "-m", *options, "seed=1")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    made = (tmp_path / "runs" / "where_to_put_the_image-shapes").glob("*/result.json")
    assert sorted(path.parent.name.rpartition("-")[0] for path in made) == [
        f"resnet18-gru-{place}-s1"
        for place in ("init_inject", "merge_concatenate", "par_inject", "pre_inject")
    ]
