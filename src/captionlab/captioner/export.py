"""A finished run as one file that needs neither its folder nor its data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from captionlab.captioner.captioner import Captioner
from captionlab.captioner.exported import write_exported
from captionlab.captioner.load import checkpoint_of, load_run, read_checkpoint
from captionlab.encoders import Encoder, RestoredEncoder
from captionlab.errors import ConfigError
from captionlab.features.source import EncoderFeatures
from captionlab.run_files import RunFiles

# An absolute path, but no address, in a text; one that is a value by itself may hold spaces.
_PATH = re.compile(r"(?<![^\s=,:'\"(\[])(?!//)~?/[^\s,'\"\])]+")
# Paths that loading needs unless the file has the encoder's weights.
_NEEDED = ("config.encoder.weights", "config.data.features")
_KEPT = ("config", "features", "vocabulary", "result", "versions", "command", "encoder_weights")


def only_run(targets: Sequence[Path]) -> Path:
    """The one run that is exported.

    Raises:
        ConfigError: if there are several.
    """
    if len(targets) > 1:
        raise ConfigError(
            f"{len(targets)} runs are an ensemble, which is no single model to export; export "
            "them one by one."
        )
    return targets[0]


def read_facts(target: Path) -> dict[str, Any]:
    """What is known of a run, in plain values.

    Args:
        target: a run's folder, a checkpoint, or an exported file.

    Returns:
        `config`, `features` and `vocabulary`; `result`, `versions` and `command` where the best
        checkpoint's run folder or the file has them; `encoder_weights` of an exported file.
        Absolute paths are cut to their last part, except those needed to load the run.

    Raises:
        RunError: if there is no such run.
    """
    return facts_of(target, read_checkpoint(_checkpoint(target)))


def export(target: Path, path: Path, with_encoder: bool) -> dict[str, Any]:
    """Write a run into one safetensors file, which loads as a checkpoint does.

    Args:
        target: a run's folder, a checkpoint, or another such file.
        path: of the file.
        with_encoder: whether the weights of a frozen encoder are part of it; those of a trained
            one always are.

    Returns:
        What the file says beside the tensors; see `read_facts`.

    Raises:
        CaptionLabError: if the run cannot be loaded or the file not written.
    """
    saved = read_checkpoint(_checkpoint(target))
    tensors: dict[str, Tensor] = {
        name: value
        for name, value in saved["state_dict"].items()
        if not name.startswith("frozen_encoder.")
    }
    captioner = load_run(_checkpoint(target)).captioner
    encoder = encoder_of(captioner, with_encoder)
    if with_encoder and not encoder.num_trained_parameters:
        state = encoder.state_dict()
        tensors |= {f"frozen_encoder.{name}": value for name, value in state.items()}
    facts = with_weights(facts_of(target, saved), encoder, with_encoder)
    write_exported(path, facts, tensors)
    return facts


def with_weights(facts: Mapping[str, Any], encoder: Encoder, included: bool) -> dict[str, Any]:
    """Add `encoder_weights`: `name`, `source`, `licence`, `included`, `trained`.

    Where the weights are included, the paths in `config` are cut to their last part.

    Args:
        facts: of the run; a file that was exported knows its weights.
        encoder: of the run.
        included: whether the weights of a frozen encoder are handed on.
    """
    trained = bool(encoder.num_trained_parameters)
    known = facts.get("encoder_weights") or encoder.weights_facts
    weights = {**known, "included": included or trained, "trained": trained}
    config = _without_folders(facts["config"]) if weights["included"] else facts["config"]
    return {**facts, "config": config, "encoder_weights": weights}


def encoder_of(captioner: Captioner, with_weights: bool) -> Encoder:
    """The encoder of a run, unwrapped where its weights came from an exported file.

    Args:
        captioner: of the run.
        with_weights: whether to load its weights.

    Raises:
        WeightsError: if they cannot be loaded.
    """
    source = captioner.source
    assert isinstance(source, EncoderFeatures)
    if with_weights:
        size = source.preprocessing.image_size
        source.encode(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    encoder = source.encoder
    assert isinstance(encoder, Encoder)
    return encoder.encoder if isinstance(encoder, RestoredEncoder) else encoder


def _checkpoint(target: Path) -> Path:
    return checkpoint_of(target.absolute()) if target.is_dir() else target.absolute()


def facts_of(target: Path, saved: dict[str, Any]) -> dict[str, Any]:
    """`read_facts`, of what `read_checkpoint` gave."""
    facts = {name: value for name, value in saved["captionlab"].items() if name in _KEPT}
    checkpoint = _checkpoint(target)
    run = RunFiles(checkpoint.parent.parent)
    if checkpoint == run.best_checkpoint:
        run.check_unchanged()
        manifest = run.manifest
        known = {"result": run.read_json(run.result_path)}
        known |= {name: manifest.get(name) for name in ("versions", "command")}
        facts |= {name: value for name, value in known.items() if value is not None}
    return {
        name: value if name == "vocabulary" else _without_folders(value, name)
        for name, value in facts.items()
    }


def _without_folders(value: Any, name: str = "") -> Any:
    """Plain values, of whose absolute paths `./` and the last part are left.

    Absolute paths of the training machine are private, and useless elsewhere.

    Args:
        value: a text, or what holds texts; tensors stay.
        name: of it among the facts; those that are `_NEEDED` stay.
    """
    if name in _NEEDED:
        return value
    if isinstance(value, Mapping):
        return {key: _without_folders(v, f"{name}.{key}") for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(v) for v in value]
    if not isinstance(value, str):
        return value
    option, equals, path = value.rpartition("=")
    if path.startswith(("/", "~/")) and "," not in path:
        return f"{option}{equals}./{PurePath(path).name}"
    return _PATH.sub(lambda match: f"./{PurePath(match[0]).name}", value)
