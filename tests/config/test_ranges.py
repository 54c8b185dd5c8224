"""Every option of every group is checked before anything starts, whatever part it belongs to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from captionlab.config.checks import check, check_values, plain_config
from captionlab.config.groups import RunOptions, groups
from captionlab.errors import ConfigError
from captionlab.options import Option, options_of
from tests.support.configs import OPTIONS, PARTNERS, composed

KINDS = ("ge", "gt", "le", "lt")


@cache
def _plain(choice: str) -> dict[str, Any]:
    return plain_config(composed(choice, *PARTNERS.get(choice, [])))


def plain(choice: str) -> dict[str, Any]:
    return copy.deepcopy(_plain(choice))


def every_option() -> Iterator[tuple[str, str, Option]]:
    """What composes the option, its name on the command line, and what it may be."""
    seen = set()
    for choice in OPTIONS:
        group = choice.partition("=")[0]
        if group not in groups():
            continue
        spec = plain(choice)[group]
        if not spec or (group, spec.get("_target_")) in seen:
            continue
        seen.add((group, spec.get("_target_")))
        for option in groups()[group].options(spec).values():
            yield choice, f"{group}.{option.name}", option
    for option in options_of(RunOptions).values():
        yield "seed=0", option.name, option


def bad_values(option: Option) -> Iterator[Any]:
    """Values beside each bound, and of other types, that the option refuses."""
    bounds = [getattr(c, kind) for c in option.constraints for kind in KINDS if hasattr(c, kind)]
    for bound in bounds:
        for value in (bound - 1, bound, bound + 1):
            if option.problem(value) is not None:
                yield value
    if option.choices:
        yield "no_such_choice"
    for value in ("many", [1, "x"], -0.5):
        if option.problem(option.convert(value)) is not None:
            yield value


CASES = [
    pytest.param(choice, name, value, id=f"{choice} {name}={value}")
    for choice, name, option in every_option()
    for value in {str(value): value for value in bad_values(option)}.values()
]


@pytest.mark.parametrize(("choice", "name", "value"), CASES)
def test_a_value_out_of_range_is_one_line(
    choice: str, name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = plain(choice)
    group, _, last = name.rpartition(".")
    (config[group] if group else config)[last] = value
    with pytest.raises(ConfigError) as error:
        check_values(config)
    message = str(error.value)
    assert message.startswith(f"{name} must be ")
    assert message.endswith(f"found {value}.")
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == [], "nothing is made on disk"


def test_every_number_and_every_choice_is_among_the_cases() -> None:
    tested = {case.values[1] for case in CASES}
    names = {name for _, name, _ in every_option()}
    assert names - tested == set()


def test_every_option_says_what_it_means() -> None:
    assert [name for _, name, option in every_option() if not option.meaning] == []


def test_an_option_that_others_follow_is_blamed_itself() -> None:
    with pytest.raises(ConfigError, match=r"^decoder\.hidden_dim must be .*, found -5\.$"):
        check(composed("decoder.hidden_dim=-5"))
