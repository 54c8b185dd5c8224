"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# What may change without changing a run's result.
_WITHOUT_EFFECT = (
    "hydra",
    "name",
    "runs_dir",
    "cache_dir",
    "logger",
    "compile",
    "data.num_workers",
    "data.suggested",  # only through the values that refer to it
    "encoder.batch_size",
    "trainer.accelerator",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)


def plain_config(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration of a run, without Hydra's own, as plain values."""
    copy = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(copy, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def identity(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration less the keys that cannot change the result."""
    moved = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    moved.cache_dir = "cache"  # wherever it is, what is made there is the same
    plain = plain_config(moved)
    for path in _WITHOUT_EFFECT:
        *parents, last = path.split(".")
        node = plain
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(last, None)
    plain["init_from"] = _source(plain["init_from"])
    return plain


def _source(path: str | None) -> str | None:
    """A run folder by its name, which is the run's id, and a checkpoint by its content."""
    if path is None or not Path(path).is_file():
        return path and Path(path).resolve().name
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_id(config: DictConfig) -> str:
    """A readable slug and a hash of the identity: the name of the run's folder."""
    canonical = json.dumps(identity(config), sort_keys=True)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    parts = (config.encoder.name, config.decoder.name, config.conditioning.name)
    return f"{'-'.join(parts)}-s{config.seed}-{digest}"


def register_resolver() -> None:
    """Give Hydra's folders the name of the run: `${run_id:}`."""
    OmegaConf.register_new_resolver(
        "run_id", lambda *, _root_: run_id(_root_), replace=True, use_cache=False
    )
