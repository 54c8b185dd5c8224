"""Every configuration composes, the surface is what is written down, mistakes are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from captionlab.config.checks import check
from captionlab.config.schema import SCHEMAS, register_schemas
from captionlab.errors import ConfigError
from captionlab.runs.identity import plain_config, register_resolver, run_id

CONF = Path(__file__).parents[2] / "conf"
SURFACE = Path(__file__).parent / "surface.txt"
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "hydra"
)
PARTNERS = {"conditioning=built_in": ["decoder=transformer"]}  # what else an option needs

register_schemas()
register_resolver()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_checks(option: str) -> None:
    config = composed(option, *PARTNERS.get(option, []))
    check(config)
    group, _, name = option.partition("=")
    if "name" in (config.get(group) or {}):
        assert config[group].name == name


def test_the_surface_is_what_is_written_down(request: pytest.FixtureRequest) -> None:
    """Change `surface.txt` knowingly: every key is a promise. UPDATE_SURFACE=1 writes it."""
    import os

    keys = {f"option {option}" for option in OPTIONS}
    for option in OPTIONS:
        group = option.partition("=")[0]
        node = composed(option, *PARTNERS.get(option, [])).get(group)
        keys |= {f"key {group}.{key}" for key in _leaves(node)}
    keys |= {f"key {key}" for key in plain_config(composed()) if key not in _groups()}
    text = "\n".join(sorted(keys)) + "\n"
    if os.environ.get("UPDATE_SURFACE"):
        SURFACE.write_text(text)
    assert text == SURFACE.read_text()


def _groups() -> set[str]:
    return {option.partition("=")[0] for option in OPTIONS}


def _leaves(node: DictConfig | None, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key in node or {}:
        value = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[arg-type,index,call-overload]
        if isinstance(value, dict):
            found |= _leaves(OmegaConf.create(value), f"{prefix}{key}.")
        else:
            found.add(f"{prefix}{key}")
    return found


def test_every_schema_key_is_an_argument_of_what_it_builds() -> None:
    from inspect import signature

    from hydra.utils import get_object

    for group, schemas in SCHEMAS.items():
        for schema in schemas.values():
            fields = {f.name: f for f in dataclasses.fields(schema)}
            target = get_object(str(fields.pop("_target_").default))
            taken: set[str] = set()
            for each in target.__mro__:
                taken |= set(signature(each.__init__).parameters)
            beside = {"encoder": {"batch_size", "lr"}, "decoder": {"word_vectors"}}
            ours = {"name", "suggested"} | beside.get(group, set())
            assert set(fields) - ours <= taken, schema


@pytest.mark.parametrize(
    "override",
    ["decoder.hiden_dim=8", "decoder.hidden_dim=many", "encoder=resnet9", "seed=x", "nothing=1"],
)
def test_a_typo_or_a_wrong_type_stops_before_any_job(override: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)):
        composed(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decoder.num_layers=0", "decoder.num_layers must be at least 1, found 0"),
        ("decoder.dropout=1.5", r"decoder.dropout must be in \[0, 1\), found 1.5"),
        ("name=${nowhere}", "nowhere"),
        ("data.on_bad_image=drop", "data.on_bad_image=drop is unknown; use error, skip"),
        ("decoder.word_vectors=nowhere.txt", "decoder.word_vectors=nowhere.txt cannot be read"),
        ("init_from=/nowhere", "init_from=/nowhere does not exist; name a finished run"),
        ("search.block_ngrams=0", "search.block_ngrams must be at least 1, found 0"),
        ("search.min_length=21", "min_length must be at most search.max_length=20, found 21"),
        ("monitor=val/loss", "monitor=val/loss is unknown; use val/cider_d"),
    ],
)
def test_values_that_cannot_be_are_told(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        check(composed(override))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["decoder=transformer", "conditioning=pre_inject"],
            "decoder=transformer looks at the image in its own way, found conditioning=pre_inject",
        ),
        (
            ["data.stored_features=pooled"],
            "data.stored_features=pooled keeps no maps, but conditioning=attention looks at them",
        ),
        (["conditioning=built_in"], "decoder=lstm has no conditioning of its own"),
        (["encoder.lr=1.0e-4"], "encoder.lr=0.0001 has no effect while encoder.train=none; set"),
        (["encoder.train=last", "encoder.lr=-1"], "encoder.lr must be positive, found -1.0"),
        (["encoder.grid_size=0"], "encoder.grid_size must be at least 1, found 0"),
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
            "decoder.num_heads must divide decoder.hidden_dim=128, found 7",
        ),
        (
            ["decoder=transformer", "decoder.num_heads=0"],
            "decoder.num_heads must divide decoder.hidden_dim=128, found 0",
        ),
        (
            ["conditioning=dot_attention", "conditioning.feature_dim=12"],
            "conditioning.num_heads must divide conditioning.feature_dim=12, found 8",
        ),
        (
            ["compile=true", "objective=scheduled_sampling"],
            "compile=true compiles teacher forcing, found objective=scheduled_sampling",
        ),
        (
            ["conditioning=merge", "conditioning.combine=multiply"],
            "conditioning.combine=multiply is unknown; use add, concatenate",
        ),
        (
            ["decoder=transformer", "decoder.positions=rotary"],
            "decoder.positions=rotary is unknown; use sinusoidal, learned",
        ),
        (
            ["conditioning=par_inject", "conditioning.image_dim=0"],
            "conditioning.image_dim must be at least 1, found 0",
        ),
    ],
)
def test_parts_that_do_not_fit_are_told(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        check(composed(*overrides))
    assert "\n" not in str(error.value)


def test_a_transformer_brings_its_own_conditioning() -> None:
    config = composed("decoder=transformer")
    assert config.conditioning == {"name": "built_in"}
    assert run_id(config).startswith("resnet-transformer-built_in-s0-")


def test_word_vectors_of_another_size_are_told(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\na 1 2 3\nb 4 5 6\n")
    check(composed(f"decoder.word_vectors={path}", "decoder.embedding_dim=3"))
    with pytest.raises(ConfigError, match=r"has vectors of 3 values.*embedding_dim=128; set it"):
        check(composed(f"decoder.word_vectors={path}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("search=diverse_beam", "search.num_groups=4"), "must divide search.beam_size=6, found 4"),
        (("objective=scheduled_sampling", "objective.decay=no"), "decay=no is unknown; use linear"),
        (("objective=scheduled_sampling", "objective.last_share=1.1"), "found 1.0 and 1.1"),
        (
            ("objective=self_critical", "objective.baseline=samples", "objective.num_samples=1"),
            "num_samples must be at least 2",
        ),
        (("objective=self_critical", "objective.baseline=x"), "baseline=x is unknown; use greedy"),
        (("schedule=plateau", "schedule.patience=0"), "patience must be at least 1, found 0"),
        (("schedule=plateau", "schedule.factor=1"), r"factor must be in \[0, 1\), found 1"),
        (("objective=self_critical", "objective.temperature=0"), "must be positive, found 0"),
        (("search=sample", "search.temperature=0"), "temperature must be positive, found 0"),
        (("search=sample", "search.top_p=1.5"), r"top_p must be in \(0, 1\], found 1.5"),
        (("search=sample", "search.top_k=0"), "top_k must be at least 1, found 0"),
        (("objective=self_critical", "objective.bleu_weight=-1"), "at least 0, found -1"),
        (("objective.doubly_stochastic=-1",), "at least 0, found -1"),
        (
            ("objective.doubly_stochastic=1", "conditioning=merge"),
            "doubly_stochastic spreads attention, found conditioning=merge, which has none",
        ),
    ],
)
def test_options_that_do_not_go_together_are_told(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(composed(*overrides))


def test_a_second_phase_is_named_by_what_it_goes_on_from(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "lstm-s0-1").mkdir(parents=True)
        (tmp_path / place / "a.ckpt").write_text("weights")
    (tmp_path / "b.ckpt").write_text("other weights")
    first = run_id(composed(f"init_from={tmp_path}/here/lstm-s0-1"))
    assert run_id(composed(f"init_from={tmp_path}/there/lstm-s0-1")) == first != run_id(composed())
    by_file = run_id(composed(f"init_from={tmp_path}/here/a.ckpt"))
    assert run_id(composed(f"init_from={tmp_path}/there/a.ckpt")) == by_file != first
    assert run_id(composed(f"init_from={tmp_path}/b.ckpt")) != by_file


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
    for other in ("seed=1", "decoder.dropout=0.3", "search=greedy", "trainer.max_epochs=3"):
        assert run_id(composed(other)) != name, other
