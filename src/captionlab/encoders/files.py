"""Encoders as configuration files describe them."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from captionlab.encoders.protocol import Encoder
from captionlab.options import find_part, options_of


def list_encoders(folder: Path | Traversable) -> list[str]:
    """Names of the encoders in a folder such as `conf/encoder`: its YAML files, sorted."""
    files = (file.name for file in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def read_encoder(folder: Path | Traversable, name: str, **options: Any) -> Encoder:
    """Make the encoder that a file describes; its weights are not loaded.

    An option that the file takes from elsewhere in the configuration (`${...}`) has its default,
    so that the image size is the one that the weights were trained at.

    Args:
        folder: holds `<name>.yaml` with `_target_` and options, or with the name of another file
            there as the first of `defaults`.
        name: of the encoder.
        options: override those of the file.

    Raises:
        ConfigError: if the file names a class that cannot be imported or is no encoder, or an
            option has a value that the class refuses.
    """
    values = _read(folder, name) | options
    part = find_part(values["_target_"], Encoder)
    known = options_of(part)
    return part(**{k: v for k, v in values.items() if k in known and not str(v).startswith("${")})


def _read(folder: Path | Traversable, name: str) -> dict[str, Any]:
    text = folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    base = values.pop("defaults", ["_self_"])[0]
    return values if base == "_self_" else _read(folder, base) | values
