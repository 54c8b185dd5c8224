"""What a run needs of the machine, checked before anything is set up."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from captionlab.captioner.parts import build_encoder, build_tokenizer
from captionlab.devices import find_device
from captionlab.errors import ConfigError
from captionlab.options import check_options, options_of
from captionlab.runs.folder import check_writable
from captionlab.runs.launching.machine import check_devices, check_step, gpus
from captionlab.training.trainer import TrainerOptions


def check_requirements(values: Mapping[str, Any]) -> None:
    """Refuse a run that this machine cannot start.

    Args:
        values: a configuration as `config.checks.check` gives it.

    Raises:
        CaptionLabError: naming the option and what is missing.
    """
    find_device(values["trainer"]["accelerator"], values["trainer"]["devices"])
    check_devices(values["trainer"], len(gpus()))
    check_step(values["trainer"])
    check_writable(Path(values["cache_dir"]), "cache_dir")
    check_parts(values)


def check_parts(values: Mapping[str, Any]) -> None:
    """As `check_requirements`, wherever the run is to compute.

    Raises:
        CaptionLabError: for weights that are not there, an image size that does not fit, a package
            that is missing, or an argument that nobody takes.
    """
    _check_trainer(values["trainer"])
    for name, spec in values["callbacks"].items():
        if spec:
            _check_call(f"callbacks.{name}.", spec)
    if "_target_" in values["logger"]:
        _check_call("logger.", values["logger"])
    build_tokenizer(values)
    build_encoder(values)


def check_new_parts(values: Mapping[str, Any], checked: set[str]) -> None:
    """As `check_parts`, once for all configurations whose parts are alike.

    Args:
        values: a configuration as `config.checks.check` gives it.
        checked: the parts of those before; these are added.

    Raises:
        CaptionLabError: as `check_parts` does.
    """
    groups = ("trainer", "callbacks", "logger", "tokenizer", "encoder")
    parts = [values[name] for name in groups] + [values["data"].get("features")]
    key = json.dumps(parts, sort_keys=True, default=str)
    if key not in checked:
        check_parts(values)
        checked.add(key)


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    others = trainer.keys() - options_of(TrainerOptions).keys()
    if not others:
        return
    import pytorch_lightning as pl  # takes seconds

    _check_names("trainer.", sorted(others), pl.Trainer)


def _check_call(prefix: str, spec: Mapping[str, Any]) -> None:
    """Compare what a class of anybody's is given with the arguments that it takes."""
    target = spec.get("_target_")
    if not isinstance(target, str):
        raise ConfigError(f"{prefix}_target_ is missing: the dotted name of a class to make.")
    module, _, name = target.rpartition(".")
    try:
        part = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{prefix}_target_={target} cannot be imported ({error}).") from error
    given = {name: value for name, value in spec.items() if not name.startswith("_")}
    _check_names(prefix, given, part)
    if target.startswith("captionlab."):
        options = options_of(part)
        values = {name: value for name, value in given.items() if name in options}
        check_options(prefix, options, values, all_of_them=False)


def _check_names(prefix: str, names: Mapping[str, Any] | list[str], part: Any) -> None:
    known = inspect.signature(part).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else "leave it out."
            raise ConfigError(
                f"unknown option {prefix}{name}: {part.__name__} has no such argument; {hint}"
            )
