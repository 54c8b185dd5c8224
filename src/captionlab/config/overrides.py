"""Mistakes in overrides, found before a part is imported; torch alone takes seconds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from captionlab.errors import ConfigError

CONFIG_NAME = "config"


def check_overrides(
    words: Sequence[str],
    loader: ConfigLoader,
    config_name: str = CONFIG_NAME,
    multirun_command: Sequence[str] | None = None,
    searches: bool = False,
) -> None:
    """Find unknown names, unreadable words and contradictions in a command line.

    Args:
        words: overrides as they were typed.
        loader: of Hydra, with the search path of the command.
        config_name: of the primary configuration.
        multirun_command: what the user should have typed to sweep; None where this is a sweep.
        searches: whether a search draws from intervals; else only a sweeper that can do so may.

    Raises:
        ConfigError: in one or two lines, with the nearest name or what is allowed.
    """
    overrides = [_parse(word, loader) for word in words]
    _refuse_contradictions(overrides)
    single: list[str] = []  # the overrides of the first run
    others: list[tuple[int, str]] = []  # further choices of groups, and where they stand
    for override in overrides:
        word = str(override.input_line)
        values = [override.value()]
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                if not searches and _sweeps_by_lists(overrides, loader, config_name):
                    raise ConfigError(
                        f"{word} is a range to search in: run captionlab tune {shlex.quote(word)}, "
                        "or name values, A,B."
                    )
                continue
            if multirun_command is not None:
                raise ConfigError(
                    f"{word} gives several values, which needs -m (a list is written "
                    f"[a,b]); run\n  {shlex.join(multirun_command)}"
                )
            try:
                values = list(override.sweep_iterator())
            except ValueError as error:  # of range(1, 4, 0)
                raise ConfigError(f"{word} has no values ({error}).") from error
            if not values:
                raise ConfigError(f"{word} has no values; name at least one.")
            key = override.get_key_element()
            word, *rest = [f"{key}={text}" for text in override.sweep_string_iterator()]
            if _is_group(override.key_or_group, loader):
                others += [(len(single), another) for another in rest]
        for value in values:
            _check_choice(override, value, loader)
        single.append(word)
    mode = RunMode.RUN if multirun_command is not None else RunMode.MULTIRUN
    for index, another in [(0, single[0]), *others] if single else []:
        run = [*single[:index], another, *single[index + 1 :]]
        try:
            loader.load_configuration(config_name, run, mode)
        except HydraException as error:
            told = f"{another}: " if others else ""
            raise ConfigError(f"{told}{explain(error, run, loader, config_name)}") from error
    added = [o for o in overrides if o.is_add() or o.is_force_add()]
    if added:
        base = _base(overrides, loader, config_name)
        for override in added:
            _check_key(override, base, loader, is_new=True)


def explain(
    error: HydraException, words: Sequence[str], loader: ConfigLoader, config_name: str
) -> ConfigError:
    """Hydra's error as one of ours, which names the override and what is allowed.

    Args:
        error: from composing the configuration of one run.
        words: its overrides.
        loader: that composed it.
        config_name: of the primary configuration.
    """
    try:
        overrides = [_parse(word, loader) for word in words]
        for override in overrides:
            _check_choice(override, override.value(), loader)
        base = _base(overrides, loader, config_name)
        for override in overrides:
            _check_key(override, base, loader, is_new=False)
    except ConfigError as ours:
        return ours
    except HydraException as first:  # a file of the user's own config folder, most likely
        error = first
    return ConfigError(" ".join(line.strip() for line in str(error).splitlines()[:2]))


def _parse(word: str, loader: ConfigLoader) -> Override:
    if "=" not in word and not word.startswith("~"):
        groups = loader.list_groups("")
        near = get_close_matches(word, groups, n=1)
        example = f"{near[0]}={loader.get_group_options(near[0])[0]}" if near else "encoder=vgg"
        raise ConfigError(f"cannot read {word!r}: expected NAME=VALUE, such as {example}.")
    try:
        return OverridesParser.create(loader).parse_overrides([word])[0]
    except HydraException as error:
        raise ConfigError(_unreadable(word)) from error
    except Exception as error:  # the grammar's functions raise what Python raises
        raise ConfigError(f"{_unreadable(word)} ({error})") from error


def _unreadable(word: str) -> str:
    key, _, value = word.partition("=")
    if value.endswith(","):
        return f"cannot read {word!r}: a value is missing after its last comma, or a blank follows."
    odd = re.search(r"[^\w/\\.+$%*@?|:,()\[\]{}=\s'\"-]", value, re.ASCII)
    if odd and not set(value) & set("'\"=,"):
        quoted = shlex.quote(f'{key}="{value}"')
        return f"cannot read {word!r}: {odd[0]!r} must stand in quotes of its own, as in {quoted}."
    return (
        f"cannot read {word!r}: expected NAME=VALUE; put a value with blanks, commas, brackets or "
        "equals signs in quotes of its own, as in 'NAME=\"a = b\"'."
    )


def _refuse_contradictions(overrides: Sequence[Override]) -> None:
    earlier: dict[str, Override] = {}
    for override in overrides:
        key = f"{override.key_or_group}@{override.package or ''}"
        other = earlier.setdefault(key, override)
        if other.input_line != override.input_line:
            raise ConfigError(
                f"{override.key_or_group} is given twice, as {other.input_line} and as "
                f"{override.input_line}; keep one (a sweep over both is -m "
                f"{override.key_or_group}=A,B)."
            )


def _check_choice(override: Override, value: Any, loader: ConfigLoader) -> None:
    """Refuse a value of a group that is none of its options."""
    group = override.key_or_group
    if override.package is not None or not _is_group(group, loader):
        return
    if override.is_delete():
        raise ConfigError(f"~{group}: a group cannot be removed; choose an option, {group}=...")
    options = loader.get_group_options(group)
    if not isinstance(value, str) or value not in options:
        shown = str(override.input_line) if isinstance(value, list | dict) else f"{group}={value}"
        near = get_close_matches(str(value), options, n=1)
        hint = f"did you mean {near[0]}? It" if near else "it"
        raise ConfigError(f"{shown} is unknown; {hint} can be {', '.join(options)}.")
    if override.is_add():
        raise ConfigError(f"+{group}={value}: {group} is set already; leave the + out.")


def _check_key(override: Override, base: DictConfig, loader: ConfigLoader, is_new: bool) -> None:
    """Refuse the name of a value that the configuration does not have.

    Args:
        override: of the value.
        base: the configuration without any value of the command line.
        loader: that composed it.
        is_new: whether a name may be new below its group, whose part decides about it.
    """
    key = override.key_or_group
    if _is_group(key, loader):
        return
    if "/" in key or override.package is not None:
        known = _siblings(key.rpartition("/")[0], loader)
        raise ConfigError(f"unknown group {key}; known: {', '.join(known)}.")
    node: Any = base
    parts = key.split(".")
    for depth, part in enumerate(parts):
        known = [str(name) for name in node] if isinstance(node, DictConfig) else []
        if part not in known:
            if is_new and depth:
                return
            prefix = "".join(f"{name}." for name in parts[:depth])
            if depth == 0:
                known = [name for name in known if name != "hydra"]
            hint = _hint(parts[depth:], prefix, known, base)
            raise ConfigError(f"unknown option {key}; {hint}")
        node = node._get_node(part) if OmegaConf.is_interpolation(node, part) else node[part]
    if override.is_add() and not is_new:
        raise ConfigError(f"{override.input_line}: {key} is set already; leave the + out.")


def _hint(parts: Sequence[str], prefix: str, known: Sequence[str], base: DictConfig) -> str:
    """What an unknown name may have meant: a neighbour, or an option of that name elsewhere."""
    rest = "".join(f".{part}" for part in parts[1:])
    elsewhere = [f"{group}.{parts[0]}" for group, names in _named(base) if parts[0] in names]
    if elsewhere and not rest:
        return f"did you mean {' or '.join(elsewhere)}?"
    near = get_close_matches(parts[0], known, n=1)
    if near:
        return f"did you mean {prefix}{near[0]}{rest}?"
    similar = [
        f"{group}.{name}"
        for group, names in _named(base)
        for name in get_close_matches(parts[0], names, n=1, cutoff=0.8)
    ]
    if similar and not rest:
        return f"did you mean {' or '.join(similar)}?"
    return f"known: {', '.join(f'{prefix}{name}' for name in known) or 'nothing there'}."


def _named(base: DictConfig) -> Iterator[tuple[str, list[str]]]:
    """Groups with the names of their options."""
    for group in base:
        node = None if group == "hydra" else base._get_node(group)
        if isinstance(node, DictConfig):
            yield str(group), [str(name) for name in node]


def _base(overrides: Sequence[Override], loader: ConfigLoader, config_name: str) -> DictConfig:
    """The configuration of the groups that were chosen, without the values."""
    words = []
    for override in overrides:
        if _is_group(override.key_or_group, loader):
            is_sweep = override.is_sweep_override()
            value = next(override.sweep_string_iterator()) if is_sweep else override.value()
            words.append(f"{override.get_key_element()}={value}")
    return loader.load_configuration(config_name, words, RunMode.MULTIRUN)


def _sweeps_by_lists(overrides: Sequence[Override], loader: ConfigLoader, config_name: str) -> bool:
    """Whether the sweeper is Hydra's own, which takes lists of values alone."""
    sweeper = _base(overrides, loader, config_name).hydra.sweeper
    return str(sweeper._target_).endswith(".BasicSweeper")


def _is_group(name: str, loader: ConfigLoader) -> bool:
    return name in _siblings(name.rpartition("/")[0], loader)


def _siblings(parent: str, loader: ConfigLoader) -> list[str]:
    return [f"{parent}/{name}" if parent else name for name in loader.list_groups(parent)]
