"""What no single option can tell: whether a configuration holds together."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from captionlab.errors import ConfigError

_POSITIVE = (
    "data.batch_size",
    "data.eval_batch_size",
    "data.min_count",
    "data.max_caption_length",
    "encoder.batch_size",
    "decoder.embedding_dim",
    "decoder.hidden_dim",
    "decoder.num_layers",
    "search.max_length",
    "trainer.max_epochs",
)
_POSITIVE_IF_GIVEN = (
    "objective.num_samples",
    "search.beam_size",
    "search.num_groups",
    "search.block_ngrams",
)
_CHOICES = {
    "objective.decay": ("linear", "exponential", "inverse_sigmoid"),
    "objective.baseline": ("greedy", "samples"),
}
_MONITORS = [f"val/{name}" for name in ("cider_d", "rouge_l", *(f"bleu_{k}" for k in (1, 2, 3, 4)))]
_SHARES = ("decoder.dropout", "conditioning.dropout", "objective.label_smoothing")


def check(config: DictConfig) -> None:
    """Find what would stop the run later, before anything starts.

    Raises:
        ConfigError: naming the option, what was found and what is allowed.
    """
    from omegaconf import OmegaConf

    try:
        OmegaConf.to_container(
            OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    if config.monitor not in _MONITORS:
        raise ConfigError(f"monitor={config.monitor} is unknown; use {', '.join(_MONITORS)}.")
    if config.init_from is not None and not Path(config.init_from).exists():
        raise ConfigError(
            f"init_from={config.init_from} does not exist; name a finished run's folder or one of "
            "its checkpoints."
        )
    for key in _POSITIVE:
        value = OmegaConf.select(config, key)
        if value is None or value < 1:
            raise ConfigError(f"{key} must be at least 1, found {value}.")
    for key in _POSITIVE_IF_GIVEN:
        value = OmegaConf.select(config, key)
        if value is not None and value < 1:
            raise ConfigError(f"{key} must be at least 1, found {value}.")
    for key, allowed in _CHOICES.items():
        value = OmegaConf.select(config, key)
        if value is not None and value not in allowed:
            raise ConfigError(f"{key}={value} is unknown; use {' or '.join(allowed)}.")
    _check_objective(config.objective)
    _check_search(config.search)
    for key in _SHARES:
        value = OmegaConf.select(config, key)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{key} must be in [0, 1), found {value}.")


def _check_objective(objective: DictConfig) -> None:
    first, last = objective.get("first_share"), objective.get("last_share")
    if first is not None and not 0 <= last <= first <= 1:
        raise ConfigError(
            "objective.first_share and last_share must be in [0, 1] and fall, "
            f"found {first} and {last}."
        )
    if objective.get("decay") == "exponential" and not last:
        raise ConfigError("objective.last_share must be positive where the decay is exponential.")
    if objective.get("baseline") == "samples" and objective.num_samples < 2:
        raise ConfigError(
            "objective.num_samples must be at least 2 for objective.baseline=samples, "
            f"found {objective.num_samples}."
        )


def _check_search(search: DictConfig) -> None:
    if search.get("min_length", 0) > search.max_length:
        raise ConfigError(
            f"search.min_length must be at most search.max_length={search.max_length}, "
            f"found {search.min_length}."
        )
    if search.get("num_groups") and search.beam_size % search.num_groups:
        raise ConfigError(
            f"search.num_groups must divide search.beam_size={search.beam_size}, "
            f"found {search.num_groups}."
        )
