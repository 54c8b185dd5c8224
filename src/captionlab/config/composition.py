"""The configurations of a sweep: composed once per choice of groups, which takes 0.15 s each."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf


class SweepLoader:
    """A config loader that gives the configurations of a sweep, and all else as another does.

    Hydra composes every run twice from its files. Here, runs that differ in nothing but plain
    values, such as `seed=`, are copies of the first of them, into which Hydra sets the values.

    Args:
        loader: of Hydra.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._first: dict[tuple[str, ...], DictConfig] = {}
        self._known: dict[tuple[str, ...], DictConfig] = {}
        self._groups = set(loader.list_groups(""))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """The configuration of one run; the same one for the same overrides."""
        words = tuple(sweep_overrides)
        if words not in self._known:
            self._known[words] = self._load(master_config, list(words))
        return self._known[words]

    def _load(self, master_config: DictConfig, words: list[str]) -> DictConfig:
        overrides = OverridesParser.create(self._loader).parse_overrides(words)
        plain = {o.key_or_group: o for o in overrides if self._is_plain(o)}
        kind = tuple(
            str(o.key_or_group if o.key_or_group in plain else o.input_line) for o in overrides
        )
        first = self._first.get(kind)
        if first is None:
            config = self._loader.load_sweep_config(master_config, words)
            self._first[kind] = copy.deepcopy(config)
            return config
        config = copy.deepcopy(first)
        ConfigLoaderImpl._apply_overrides_to_config(list(plain.values()), config)
        config.hydra.overrides.task = words
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides, naming.exclude_keys, naming.item_sep, naming.kv_sep
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _is_plain(self, override: Override) -> bool:
        """Whether it sets one value of a key that is there, and chooses no group's option."""
        changes_keys = override.is_add() or override.is_force_add() or override.is_delete()
        key = override.key_or_group
        is_choice = key in self._groups or "/" in key or override.package is not None
        is_scalar = not isinstance(override.value(), list | dict)
        return is_scalar and not (changes_keys or is_choice or override.is_hydra_override())
