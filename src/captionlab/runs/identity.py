"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from captionlab.errors import CaptionLabError, WeightsError
from captionlab.files import digest
from captionlab.run_files import RESULTS_VERSION

# What may change without changing a run's result.
_WITHOUT_EFFECT = (
    "name",
    "runs_dir",
    "cache_dir",
    "n_jobs",
    "repeats",
    "retry",
    "test",
    "logger",
    "compile",
    "data.root",  # the identity has what lies there
    "data.num_workers",
    "data.suggested",  # only through the values that refer to it
    "encoder.batch_size",
    "trainer.accelerator",
    "trainer.checkpoint_every_minutes",
    "trainer.checkpoint_every_steps",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in plain values less what cannot change the result.

    Raises:
        DataError: if the data set cannot be read.
    """
    # This brings torch.
    from captionlab.captioner.parts import build_dataset, feature_file, features_digest
    from captionlab.encoders.weights import find

    kept: dict[str, Any] = json.loads(json.dumps(config))  # a copy; a tuple is a list on disk
    for path in _WITHOUT_EFFECT:
        *parents, last = path.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(last, None)
    file = feature_file(config)
    if file is None:
        kept["data"].pop("features", None)  # as in runs that knew no such option
    else:
        kept["data"]["features"] = features_digest(config, file)
    for option in ("limit", "train_limit"):
        if kept["data"].get(option) is None:  # runs from before the option are the same runs
            kept["data"].pop(option, None)
    kept["data"]["content"] = build_dataset(config).identity()
    kept["init_from"] = _source(kept["init_from"])
    encoder, vectors = kept["encoder"], kept["decoder"].get("word_vectors")
    weights = str(encoder.get("weights"))
    if Path(weights).expanduser().exists():
        try:
            own = find(weights, encoder.get("architecture", encoder["name"]))
            encoder["weights"] = _content(own)
        except WeightsError:  # reported where the encoder is made; or it looks for another name
            files = sorted(Path(weights).expanduser().glob("*.pth"))
            if files:
                encoder["weights"] = {path.name: _content(path) for path in files}
    if vectors is not None and Path(vectors).is_file():
        kept["decoder"]["word_vectors"] = _content(Path(vectors))
    return {**kept, "results_version": RESULTS_VERSION}


def run_id(config: DictConfig) -> str:
    """A readable slug and a hash of the identity: the name of the run's folder."""
    from captionlab.config.checks import plain_config  # brings torch

    plain = plain_config(config)
    try:
        canonical = json.dumps(identity(plain), sort_keys=True)
    except CaptionLabError:  # Hydra asks while it composes; the check that follows reports it
        canonical = ""
    parts = [plain[group]["name"] for group in ("encoder", "decoder", "conditioning")]
    number = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    return f"{'-'.join(parts)}-s{plain['seed']}-{number}"


def register_resolver() -> None:
    """Give Hydra's folders the name of the run: `${run_id:}`."""
    OmegaConf.register_new_resolver(
        "run_id", lambda *, _root_: run_id(_root_), replace=True, use_cache=False
    )


def _source(path: str | None) -> str | None:
    """A run folder by its name, which is the run's id, and a checkpoint by its content."""
    if path is None or not Path(path).is_file():
        return path and Path(path).resolve().name
    return digest(Path(path))


def _content(path: Path) -> str:
    """A digest, which all runs of a sweep ask for."""
    status = path.stat()
    return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _digest(path: Path, size: int, modified: int) -> str:
    return digest(path)
