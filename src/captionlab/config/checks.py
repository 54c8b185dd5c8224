"""What no single option can tell: whether a configuration holds together."""

from __future__ import annotations

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
    if config.data.on_bad_image not in ("error", "skip"):
        raise ConfigError(
            f"data.on_bad_image={config.data.on_bad_image} is unknown; use error or skip."
        )
    for key in _POSITIVE:
        value = OmegaConf.select(config, key)
        if value is None or value < 1:
            raise ConfigError(f"{key} must be at least 1, found {value}.")
    for key in _SHARES:
        value = OmegaConf.select(config, key)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{key} must be in [0, 1), found {value}.")
