"""What no single option can tell: whether a configuration holds together."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
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
_POSITIVE_IF_ANY = (
    "encoder.grid_size",
    "decoder.feedforward_ratio",
    "conditioning.feature_dim",
    "conditioning.attention_dim",
    "conditioning.image_dim",
    "objective.num_samples",
    "search.beam_size",
    "search.num_groups",
    "search.block_ngrams",
    "search.top_k",
    "schedule.patience",
)
_TEMPERATURES = ("objective.temperature", "search.temperature")
_MONITORS = [f"val/{name}" for name in ("cider_d", "rouge_l", *(f"bleu_{k}" for k in (1, 2, 3, 4)))]
_CHOICES = {
    "data.on_bad_image": ("error", "skip"),
    "data.stored_features": ("all", "pooled"),
    "decoder.positions": ("sinusoidal", "learned"),
    "objective.decay": ("linear", "exponential", "inverse_sigmoid"),
    "objective.baseline": ("greedy", "samples"),
    "conditioning.combine": ("add", "concatenate"),
}
_HEADS = {  # what they are shared out of
    "decoder.num_heads": ("decoder.hidden_dim",),
    "conditioning.num_heads": ("conditioning.attention_dim", "conditioning.feature_dim"),
}
_SHARES = (
    "decoder.dropout",
    "decoder.output_dropout",
    "conditioning.dropout",
    "conditioning.batch_norm_momentum",
    "objective.label_smoothing",
    "schedule.factor",
)


def check(config: DictConfig) -> None:
    """Find what would stop the run later, before anything starts.

    Raises:
        ConfigError: naming the option, what was found and what is allowed.
    """
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
    for key in _POSITIVE_IF_ANY:
        value = OmegaConf.select(config, key)
        if value is not None and value < 1:
            raise ConfigError(f"{key} must be at least 1, found {value}.")
    for key in _TEMPERATURES:
        value = OmegaConf.select(config, key)
        if value is not None and value <= 0:
            raise ConfigError(f"{key} must be positive, found {value}.")
    _check_encoder(config)
    _check_objective(config.objective)
    if config.objective.get("doubly_stochastic") and "attention_dim" not in config.conditioning:
        raise ConfigError(
            "objective.doubly_stochastic spreads attention, found "
            f"conditioning={config.conditioning.name}, which has none; use conditioning=attention "
            "or dot_attention."
        )
    if config.compile and "label_smoothing" not in config.objective:
        raise ConfigError(
            "compile=true compiles teacher forcing, found "
            f"objective={config.objective.name}, which steps; use compile=false."
        )
    _check_search(config.search)
    for key in _SHARES:
        value = OmegaConf.select(config, key)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{key} must be in [0, 1), found {value}.")
    for key, choices in _CHOICES.items():
        value = OmegaConf.select(config, key)
        if value is not None and value not in choices:
            raise ConfigError(f"{key}={value} is unknown; use {', '.join(choices)}.")
    for key, sizes in _HEADS.items():
        heads = OmegaConf.select(config, key)
        for size in sizes if heads is not None else ():
            value = OmegaConf.select(config, size)
            if heads < 1 or (value or 0) % heads:  # a size left to the encoder is checked later
                raise ConfigError(f"{key} must divide {size}={value}, found {heads}.")
    own, named = has_own_conditioning(config), config.conditioning.name
    if own and named != "built_in":
        raise ConfigError(
            f"decoder={config.decoder.name} looks at the image in its own way, found "
            f"conditioning={named}; leave conditioning out."
        )
    if not own and named == "built_in":
        raise ConfigError(
            f"decoder={config.decoder.name} has no conditioning of its own; name one, such as "
            "conditioning=attention."
        )
    if config.data.stored_features == "pooled" and (own or "attention_dim" in config.conditioning):
        raise ConfigError(
            f"data.stored_features=pooled keeps no maps, but conditioning={named} looks at them; "
            "use data.stored_features=all, or a conditioning such as init_inject."
        )
    if config.decoder.word_vectors is not None:
        from captionlab.text import word_vector_dim  # brings torch: not for disk answers

        dim = word_vector_dim(Path(config.decoder.word_vectors))
        if dim != config.decoder.embedding_dim:
            raise ConfigError(
                f"decoder.word_vectors={config.decoder.word_vectors} has vectors of {dim} values, "
                f"found decoder.embedding_dim={config.decoder.embedding_dim}; set it to {dim}."
            )


def has_own_conditioning(config: DictConfig) -> bool:
    """Whether the decoder needs none of the `conditioning` group."""
    return "cell" not in config.decoder


def _check_encoder(config: DictConfig) -> None:
    encoder, stored = config.encoder, config.data.stored_features
    if encoder.lr is not None and encoder.lr <= 0:
        raise ConfigError(f"encoder.lr must be positive, found {encoder.lr}.")
    if encoder.lr is not None and encoder.train == "none":
        raise ConfigError(
            f"encoder.lr={encoder.lr} has no effect while encoder.train=none; "
            "set encoder.train=last, all or a number of stages, or leave encoder.lr out."
        )
    if stored == "pooled" and encoder.train != "none":
        raise ConfigError(
            f"data.stored_features=pooled has no effect with encoder.train={encoder.train}, which "
            "stores no features; leave it out."
        )
    if stored == "pooled" and encoder.grid_size is not None:
        raise ConfigError(
            f"encoder.grid_size={encoder.grid_size} has no effect on data.stored_features=pooled, "
            "which keeps no maps; leave one of them out."
        )


def _check_objective(objective: DictConfig) -> None:
    if objective.get("doubly_stochastic", 0) < 0 or objective.get("bleu_weight", 0) < 0:
        raise ConfigError(
            f"objective={objective.name}: its weights must be at least 0, found "
            f"{objective.get('doubly_stochastic', objective.get('bleu_weight'))}."
        )
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
    if not 0 < search.get("top_p", 1) <= 1:
        raise ConfigError(f"search.top_p must be in (0, 1], found {search.top_p}.")
    if search.get("num_groups") and search.beam_size % search.num_groups:
        raise ConfigError(
            f"search.num_groups must divide search.beam_size={search.beam_size}, "
            f"found {search.num_groups}."
        )
