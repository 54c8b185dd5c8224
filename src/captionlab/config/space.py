"""What a search may vary: the overrides of a command line that name several values or a range.

The language is Hydra's, as its own sweepers read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep

from captionlab.errors import ConfigError


@dataclass(frozen=True)
class Dimension:
    """One option of a search.

    Attributes:
        key: as an override names it.
        choices: as overrides write them; empty where it is a range of numbers.
        low: the smallest number.
        high: the largest number, of the same type.
        step: between two numbers; None for any in between, or any whole one.
        log: whether the logarithm is drawn evenly.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def extremes(self) -> list[str]:
        """Overrides with each choice, or with the smallest and the largest number."""
        values: Sequence[Any] = self.choices or (self.low, self.high)
        return [f"{self.key}={value}" for value in values]

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        step = "" if self.step is None else f" by {self.step:g}"
        whole = "whole numbers " if isinstance(self.low, int) else ""
        return f"{whole}{self.low:g} to {self.high:g}{step}{', log' * self.log}"


def split_space(
    words: Sequence[str], loader: ConfigLoader
) -> tuple[list[Dimension], dict[str, str]]:
    """Tell the space of a search from what is fixed.

    Args:
        words: overrides that can be read.
        loader: of Hydra, which knows the options of a group for `glob`.

    Returns:
        What varies, in the order given, and the fixed overrides by the option that they set.

    Raises:
        ConfigError: for a range in which there is nothing to choose.
    """
    overrides = OverridesParser.create(loader).parse_overrides(list(words))
    varied = [override for override in overrides if override.is_sweep_override()]
    fixed = {o.get_key_element(): str(o.input_line) for o in overrides if o not in varied}
    return [_dimension(override) for override in varied], fixed


def _dimension(override: Override) -> Dimension:
    key, value = override.get_key_element(), override.value()
    word = override.input_line
    tags = value.tags if isinstance(value, Sweep) else set()  # glob(...) has none
    log = "log" in tags
    if tags - {"log"} or (log and not isinstance(value, IntervalSweep)):
        raise ConfigError(f"{word}: the one tag of a search is log, of an interval(LOW, HIGH).")
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        low, high = value.start, value.end
        if low >= high or (log and low <= 0):
            raise ConfigError(
                f"{word}: an interval begins with the smaller number{', above 0' * log}."
            )
        return Dimension(key, low=low, high=high, log=log)
    if isinstance(value, RangeSweep) and not value.shuffle:
        numbers: list[Any] = sorted(value.range())
        if isinstance(numbers[-1], float):  # a sum of many steps, and its rounding errors
            numbers[-1] = float(f"{numbers[-1]:.12g}")
        if len(numbers) > 1:
            return Dimension(key, low=numbers[0], high=numbers[-1], step=abs(value.step))
    choices = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if len(choices) < 2:
        raise ConfigError(f"{word} leaves nothing to choose; name at least two values.")
    return Dimension(key, choices=choices)
