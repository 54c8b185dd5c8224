"""Every configuration composes, the reference is right, mistakes are one line."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hydra.errors import HydraException

from captionlab.config.checks import check, plain_config
from captionlab.config.groups import groups
from captionlab.config.reference import options_reference
from captionlab.errors import ConfigError
from captionlab.runs.identity import identity, run_id
from tests.support.configs import CONF, OPTIONS, PARTNERS, checked, composed


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_checks(option: str, tmp_path: Path) -> None:
    config = plain_config(composed(option, *PARTNERS.get(option, [])))
    group, _, name = option.partition("=")
    if "name" in (config.get(group) or {}):
        assert config[group]["name"] == name
    if not option.startswith("data="):  # whose photos are not here
        checked(option, *PARTNERS.get(option, []))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_file_lists_all_options_of_its_part(option: str) -> None:
    group = option.partition("=")[0]
    spec = plain_config(composed(option, *PARTNERS.get(option, []))).get(group)
    if group in groups() and spec:
        beside = {"_target_", "suggested"}
        assert groups()[group].options(spec).keys() == spec.keys() - beside


def test_the_options_reference_is_what_the_code_says() -> None:
    """Every option is a promise: change `docs/options.md` knowingly, by the command it names."""
    assert (CONF.parent / "docs" / "options.md").read_text() == options_reference()


@pytest.mark.parametrize(
    "override", ["decoder.hiden_dim=8", "encoder=resnet9", "nothing=1", "data.roots=x"]
)
def test_a_typo_stops_before_any_job(override: str) -> None:
    with pytest.raises(HydraException):
        composed(override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["name=${nowhere}"], "nowhere"),
        (["monitor=val/loss"], "monitor=val/loss is unknown; use val/cider_d"),
        (["decoder.word_vectors=nowhere.txt"], "word_vectors=nowhere.txt cannot be read"),
        (["init_from=/nowhere"], "init_from=/nowhere does not exist; name a finished run"),
        (
            ["decoder=transformer", "conditioning=pre_inject"],
            "decoder=transformer reads the image in its own way, found conditioning=pre_inject",
        ),
        (["conditioning=built_in"], "decoder=lstm has no conditioning of its own"),
        (
            ["data.stored_features=pooled"],
            "data.stored_features=pooled keeps no maps, but conditioning=attention reads them",
        ),
        (["encoder.lr=1.0e-4"], "encoder.lr=0.0001 has no effect while encoder.train=none; set"),
        (
            ["conditioning=merge", "data.stored_features=pooled", "encoder.train=3"],
            "data.stored_features=pooled has no effect with encoder.train=3, which stores no",
        ),
        (
            ["conditioning=merge", "data.stored_features=pooled", "encoder.grid_size=7"],
            "encoder.grid_size=7 has no effect on data.stored_features=pooled",
        ),
        (
            ["decoder=transformer", "decoder.num_heads=7"],
            "decoder.num_heads must divide hidden_dim=128, found 7",
        ),
        (
            ["conditioning=dot_attention", "conditioning.feature_dim=12"],
            "conditioning.num_heads must divide feature_dim=12, found 8",
        ),
        (
            ["compile=true", "objective=scheduled_sampling"],
            "compile=true compiles teacher forcing, found objective=scheduled_sampling",
        ),
        (
            ["objective.doubly_stochastic=1", "conditioning=merge"],
            "spreads attention, found conditioning=merge, which has none",
        ),
        (["search.min_length=21"], "search.min_length must be at most max_length=20, found 21"),
        (
            ["search=diverse_beam", "search.num_groups=4"],
            "search.num_groups must divide beam_size=6, found 4",
        ),
        (
            ["objective=scheduled_sampling", "objective.first_share=0.5"],
            "objective.last_share must be at most first_share=0.5, found 0.75",
        ),
        (
            ["objective=self_critical", "objective.num_samples=1"],
            "objective.num_samples must be at least 2 for the baseline of samples, found 1",
        ),
    ],
)
def test_options_that_do_not_go_together_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        check(composed(*overrides))
    assert "\n" not in str(error.value)


def test_a_transformer_brings_its_own_conditioning() -> None:
    config = composed("decoder=transformer")
    assert config.conditioning == {"name": "built_in"}
    assert run_id(config).startswith("resnet-transformer-built_in-s0-")


def test_word_vectors_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\na 1 2 3\nb 4 5 6\n")
    check(composed(f"decoder.word_vectors={path}", "decoder.embedding_dim=3"))
    with pytest.raises(ConfigError, match=r"has vectors of 3 values.*embedding_dim=128; set it"):
        check(composed(f"decoder.word_vectors={path}"))


def test_a_run_that_starts_from_another_is_named_by_it(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "lstm-s0-1").mkdir(parents=True)
        (tmp_path / place / "a.ckpt").write_text("weights")
    (tmp_path / "b.ckpt").write_text("other weights")
    first = run_id(composed(f"init_from={tmp_path}/here/lstm-s0-1"))
    assert run_id(composed(f"init_from={tmp_path}/there/lstm-s0-1")) == first != run_id(composed())
    by_file = run_id(composed(f"init_from={tmp_path}/here/a.ckpt"))
    assert run_id(composed(f"init_from={tmp_path}/there/a.ckpt")) == by_file != first
    assert run_id(composed(f"init_from={tmp_path}/b.ckpt")) != by_file


@pytest.mark.parametrize(
    ("option", "file"),
    [("decoder.word_vectors", "a.txt"), ("encoder.weights", "a.pth"), ("encoder.weights", ".")],
)
def test_a_file_counts_by_its_content(tmp_path: Path, option: str, file: str) -> None:
    def name(place: str, content: str) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        for path in ("a.txt", "a.pth", "resnet18-1.pth"):
            (tmp_path / place / path).write_text(content)
        return run_id(composed("encoder=resnet18", f"{option}={tmp_path}/{place}/{file}"))

    first = name("here", "1 2")
    assert name("there", "1 2") == first
    assert name("here", "1 2 3") != first


def test_a_run_is_named_by_what_makes_its_result() -> None:
    name = run_id(composed())
    assert name.startswith("resnet-lstm-attention-s0-")
    for same in (
        "logger=wandb",
        "runs_dir=/x",
        "data.num_workers=3",
        "cache_dir=/c",
        "compile=true",
    ):
        assert run_id(composed(same)) == name, same
    for equal in ("decoder.dropout=0.10", "encoder.weights=none", "optimizer.weight_decay=1e-2"):
        assert run_id(composed(equal)) == name, equal
    for other in ("seed=1", "decoder.dropout=0.3", "search=greedy", "trainer.max_epochs=3"):
        assert run_id(composed(other)) != name, other


def test_only_these_options_make_no_other_run() -> None:
    config, free = checked(), set()
    expected = identity(config)
    for group, values in config.items():
        if group == "data":
            continue
        for option in (values.keys() - {"_target_"}) if isinstance(values, dict) else [None]:
            other = copy.deepcopy(config)
            if option is None:
                other[group] = "other"
            else:
                other[group][option] = "other"
            if identity(other) == expected:
                free.add(group if option is None else f"{group}.{option}")
    of_trainer = {
        "accelerator",
        "checkpoint_every_minutes",
        "checkpoint_every_steps",
        "enable_model_summary",
        "enable_progress_bar",
        "log_every_n_steps",
    }
    others = {"name", "runs_dir", "cache_dir", "n_jobs", "repeats", "retry", "test", "compile"}
    assert free == others | {"encoder.batch_size"} | {f"trainer.{name}" for name in of_trainer}
