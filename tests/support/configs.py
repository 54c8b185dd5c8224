"""Configurations composed as the command composes them."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from captionlab.config.checks import check
from captionlab.runs.identity import register_resolver

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "hydra"
)
PARTNERS = {"conditioning=built_in": ["decoder=transformer"]}  # what else an option needs

register_resolver()


def composed(*overrides: str) -> DictConfig:
    """As Hydra hands it to the task."""
    return copy.deepcopy(_compose(overrides))


@cache
def _compose(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def checked(*overrides: str) -> dict[str, Any]:
    """In plain values, as the engine takes it."""
    return check(composed(*overrides))
