"""A configuration as plain values, checked before anything starts.

The constructor that takes an option declares its range; this module has the rules across options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from captionlab.captioner.load import checkpoint_of
from captionlab.captioner.parts import build_dataset
from captionlab.config.groups import OPEN_GROUPS, RunOptions, groups
from captionlab.decoders import Conditioning, Decoder
from captionlab.decoders.word_vectors import word_vector_dim
from captionlab.errors import ConfigError, RunError
from captionlab.features.external import FeatureFile, feature_name
from captionlab.metrics.registry import validation_scores
from captionlab.objectives import Objective
from captionlab.options import Option, check_options, find_part, options_of

_NAME = re.compile(r"[^\W_][\w.+@=-]*")  # no blanks, slashes or ..
# Arguments of Lightning's Trainer that `make_trainer` gives.
_SET_BY_CAPTIONLAB = {
    "logger": "choose one by logger=NAME",
    "callbacks": "add one by +callbacks.NAME={_target_: CLASS}",
    "default_root_dir": "name the folder of all runs by runs_dir=FOLDER",
    "plugins": "leave it out",
    "use_distributed_sampler": "leave it out",
}
# Arguments of Lightning's Trainer that validate on a part of the images.
_PARTIAL_VALIDATION = ("fast_dev_run", "limit_val_batches", "overfit_batches")


def plain_config(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without Hydra's own part, each value of its option's type.

    Raises:
        ConfigError: if an interpolation leads nowhere or a value is missing.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    for _, options, group in _option_groups(values):
        for name in options.keys() & group.keys():
            group[name] = options[name].convert(group[name])
    decoder = values["decoder"]
    for group, name in ((values, "cache_dir"), (values, "init_from"), (decoder, "word_vectors")):
        if isinstance(path := group.get(name), str):
            group[name] = os.path.expanduser(path)
    if isinstance(features := values["data"].get("features"), str):
        values["encoder"] = _stand_in(features, values["encoder"])
    return values


def _stand_in(features: str, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """What the encoder group says where features were made elsewhere, so that none is run."""
    kept = {name: encoder[name] for name in ("train", "lr", "batch_size") if name in encoder}
    if kept.get("train") == "none":
        del kept["train"]
    return {"name": feature_name(features), **kept}


def check(config: DictConfig) -> dict[str, Any]:
    """Find what would stop the run later, before anything starts.

    Returns:
        The configuration as `plain_config` gives it.

    Raises:
        CaptionLabError: naming the option, what was found and what is allowed.
    """
    values = plain_config(config)
    check_values(values, _interpolated(config))
    build_dataset(values).identity()  # the data set can be read
    return values


def check_values(values: dict[str, Any], interpolated: Collection[str] = ()) -> None:
    """Check a configuration in plain values.

    Args:
        values: from `plain_config`.
        interpolated: names of options that take the value of another, which is to blame first.

    Raises:
        ConfigError: naming the option, what was found and what is allowed.
    """
    _check_features(values)
    for second_pass in (False, True):
        for prefix, options, group in _option_groups(values):
            beside = {*groups(), *OPEN_GROUPS} if prefix == "" else {"_target_", "suggested"}
            if prefix == "trainer.":
                beside = group.keys() - options.keys()  # other arguments of Lightning's
            given = {
                name: value
                for name, value in group.items()
                if name not in beside and (second_pass or f"{prefix}{name}" not in interpolated)
            }
            check_options(prefix, options, given, all_of_them=second_pass)
    _check_conditioning(values)
    for group_name, part in groups().items():
        conflict = part.conflict(values[group_name]) if values.get(group_name) else None
        if conflict is not None:
            raise ConfigError(f"{group_name}.{conflict}")
    _check_logger(values["logger"])
    _check_run(values)
    _check_encoder(values["encoder"], values["data"])
    _check_word_vectors(values["decoder"])
    _check_objective(values)


def _interpolated(config: DictConfig) -> set[str]:
    """Names of the options whose value is an interpolation."""
    nodes = [("", config), *((f"{name}.", config.get(name)) for name in groups())]
    return {
        f"{prefix}{name!s}"
        for prefix, node in nodes
        if isinstance(node, DictConfig)
        for name in node
        if OmegaConf.is_interpolation(node, str(name))
    }


def _option_groups(
    values: dict[str, Any],
) -> Iterator[tuple[str, Mapping[str, Option], dict[str, Any]]]:
    """Prefix, options and values of the top level and of each group that has any."""
    yield "", options_of(RunOptions), values
    for name, group in groups().items():
        spec = values.get(name)
        if spec:
            yield f"{name}.", group.options(spec), spec


def _check_logger(logger: Mapping[str, Any]) -> None:
    """Ask a logger class that has `conflict`; any other class is accepted."""
    part: Any = find_part(logger["_target_"], object) if logger.get("_target_") else None
    conflict = part.conflict(logger) if hasattr(part, "conflict") else None
    if conflict is not None:
        raise ConfigError(f"logger.{conflict}")


def _check_run(config: Mapping[str, Any]) -> None:
    names = {"name": config["name"]}
    names |= {f"{g}.name": config[g]["name"] for g in groups() if "name" in (config.get(g) or {})}
    for option, name in names.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{option} names a folder and a column: use letters, digits and . _ + - @, "
                f"beginning with a letter or digit; found {name!r}."
            )
    if config["runs_dir"].startswith("~"):  # Hydra takes it as it is
        raise ConfigError(
            f"runs_dir={config['runs_dir']} would be a folder called ~ here; write the whole path, "
            f"{os.path.expanduser(config['runs_dir'])}."
        )
    _check_devices(config["trainer"]["devices"])
    monitors = [f"val/{name}" for name in validation_scores()]
    if config["monitor"] not in monitors:
        raise ConfigError(f"monitor={config['monitor']} is unknown; use {', '.join(monitors)}.")
    _check_early_stopping(config["callbacks"], monitors)
    _check_trainer(config["trainer"])
    _check_init_from(config["init_from"])


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    """Arguments of Lightning's Trainer that a run cannot do with."""
    for name, instead in _SET_BY_CAPTIONLAB.items():
        if name in trainer:
            raise ConfigError(f"trainer.{name} is set by captionlab itself; {instead}.")
    for name in _PARTIAL_VALIDATION:
        if name in trainer:
            raise ConfigError(
                f"trainer.{name}={trainer[name]} leaves validation images without a score to "
                "choose a checkpoint by; for a quick trial use experiment=quick or data.limit=500."
            )
    every = trainer.get("check_val_every_n_epoch") or 1
    if every > trainer["max_epochs"]:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch={every} of {trainer['max_epochs']} epochs never "
            "validates, so that no checkpoint is chosen; set at most trainer.max_epochs."
        )


def _check_early_stopping(callbacks: Mapping[str, Any], monitors: Sequence[str]) -> None:
    for name, spec in callbacks.items():
        if spec and not isinstance(spec, Mapping):
            raise ConfigError(
                f"callbacks.{name}={spec} is no callback; leave it out by callbacks.{name}=null."
            )
        if not spec or spec.get("_target_") != "captionlab.training.trainer.early_stopping":
            continue
        monitor, mode = spec.get("monitor"), spec.get("mode")
        if monitor not in (*monitors, "val/loss"):
            near = get_close_matches(str(monitor), [*monitors, "val/loss"], n=1)
            hint = f"did you mean {near[0]}?" if near else f"use val/loss or {', '.join(monitors)}."
            raise ConfigError(f"callbacks.{name}.monitor={monitor} is unknown; {hint}")
        better = "min" if monitor == "val/loss" else "max"
        if mode != better:
            raise ConfigError(
                f"callbacks.{name}.mode={mode} would stop a training because it improves; set "
                f"callbacks.{name}.mode={better} for {monitor}."
            )


def _check_init_from(source: str | None) -> None:
    """Its vocabulary and sizes are compared later, when those of this run are known."""
    if source is None:
        return
    path = Path(source)
    if not path.exists():
        raise ConfigError(
            f"init_from={source} does not exist; name a finished run's folder or one of its "
            "checkpoints."
        )
    if path.is_dir():
        try:
            checkpoint_of(path)
        except RunError as error:
            raise ConfigError(f"init_from: {error}") from error


def _check_features(config: Mapping[str, Any]) -> None:
    data = config["data"]
    if not isinstance(data.get("features"), str):
        return
    file = FeatureFile(data["features"])
    elsewhere = f"data.features={data['features']} was made elsewhere"
    train = config["encoder"].get("train", "none")
    for name, value, without in (
        ("encoder.train", train, "none"),
        ("data.stored_features", data["stored_features"], "all"),
        ("augmentation", config["augmentation"].get("name", "none"), "none"),
    ):
        if value != without:
            raise ConfigError(f"{elsewhere}, so {name}={value} has no effect; leave it out.")
    if not file.feature_shape.num_positions and _reader(config).needs_grid:
        raise ConfigError(
            f"{elsewhere} and holds vectors alone, but "
            f"conditioning={config['conditioning']['name']} reads a grid or regions; use a "
            "conditioning such as init_inject."
        )


def _check_devices(devices: int | str | list[int]) -> None:
    """Lightning takes a number, all of them, or the numbers of some."""
    text = str(devices)
    is_list = isinstance(devices, list) or "," in text
    numbers = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    are_numbers = bool(numbers) and all(map(str.isdigit, numbers))
    if text in ("auto", "-1") or (are_numbers and (is_list or int(numbers[0]) > 0)):
        return
    raise ConfigError(
        f"trainer.devices must be a number of at least 1, -1 or auto for all, or the numbers of "
        f"some, such as [0,2]; found {text or 'nothing'}."
    )


def _check_encoder(encoder: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    stored, trains = data["stored_features"], encoder.get("train", "none") != "none"
    if encoder["lr"] is not None and not trains:
        raise ConfigError(
            f"encoder.lr={encoder['lr']} has no effect while encoder.train=none; "
            "set encoder.train=last, all or a number of stages, or leave encoder.lr out."
        )
    if stored == "pooled" and trains:
        raise ConfigError(
            "data.stored_features=pooled has no effect with "
            f"encoder.train={encoder['train']}, which stores no features; leave it out."
        )
    suggested = data.get("suggested", {}).get("encoder_grid_size")
    if stored == "pooled" and encoder.get("grid_size") not in (None, suggested):
        raise ConfigError(
            f"encoder.grid_size={encoder['grid_size']} has no effect on "
            "data.stored_features=pooled, which keeps no maps; leave one of them out."
        )


def _check_conditioning(config: Mapping[str, Any]) -> None:
    decoder, conditioning = config["decoder"]["name"], config["conditioning"]["name"]
    has_part = "_target_" in config["conditioning"]
    takes_part = find_part(config["decoder"]["_target_"], Decoder).takes_conditioning
    if has_part and not takes_part:
        raise ConfigError(
            f"decoder={decoder} reads the image in its own way, found "
            f"conditioning={conditioning}; leave conditioning out."
        )
    if takes_part and not has_part:
        raise ConfigError(
            f"decoder={decoder} has no conditioning of its own; name one, such as "
            "conditioning=attention."
        )
    if config["data"]["stored_features"] == "pooled" and _reader(config).needs_grid:
        raise ConfigError(
            f"data.stored_features=pooled keeps no maps, but conditioning={conditioning} reads "
            "them; use data.stored_features=all, or a conditioning such as init_inject."
        )


def _reader(config: Mapping[str, Any]) -> type[Conditioning[Any]] | type[Decoder]:
    """What reads the image's features: the conditioning, or a decoder with a way of its own."""
    decoder = find_part(config["decoder"]["_target_"], Decoder)
    if decoder.takes_conditioning:
        return find_part(config["conditioning"]["_target_"], Conditioning)
    return decoder


def _check_word_vectors(decoder: Mapping[str, Any]) -> None:
    if decoder.get("word_vectors") is not None:
        dim = word_vector_dim(Path(decoder["word_vectors"]))
        if dim != decoder["embedding_dim"]:
            raise ConfigError(
                f"decoder.word_vectors={decoder['word_vectors']} has vectors of {dim} values, "
                f"found decoder.embedding_dim={decoder['embedding_dim']}; set it to {dim}."
            )


def _check_objective(config: Mapping[str, Any]) -> None:
    objective = config["objective"]
    part = find_part(objective["_target_"], Objective)
    if part.needs_attention(objective) and not _reader(config).attends:
        raise ConfigError(
            f"objective={objective['name']} spreads attention, found "
            f"conditioning={config['conditioning']['name']}, which has none; use "
            "conditioning=attention or dot_attention."
        )
    if config["compile"] and not part.compilable:
        raise ConfigError(
            f"compile=true compiles teacher forcing, found objective={objective['name']}, which "
            "steps; use compile=false."
        )
