"""The one list of metrics; whoever shows, checks or chooses a score asks here.

It imports no torch, so that reports and answers from disk can ask, too.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

from captionlab.errors import ConfigError
from captionlab.metrics.protocol import Metric, Score

RANKING = "cider_d"  # the score that systems are ranked by
PYTHON_SUFFIX = "_pyptb"  # of the names of scores on Python's tokens in place of Stanford's

_registered: dict[str, type[Metric]] = {}
_M = TypeVar("_M", bound=type[Metric])
_T = TypeVar("_T")


def register(metric: _M) -> _M:
    """Add a metric, as a decorator of its class.

    Raises:
        ValueError: if a metric or a score of that name is there already.
    """
    theirs = {name for other in _registered.values() for name in _names(other)}
    if metric.name in _registered or theirs & set(_names(metric)):
        raise ValueError(f"there is already a metric {metric.name}, or a score of its names.")
    _registered[metric.name] = metric
    return metric


def metrics() -> list[type[Metric]]:
    """All metrics, by name."""
    _import_definitions()
    return [_registered[name] for name in sorted(_registered)]


def find_metrics(names: Sequence[str]) -> list[type[Metric]]:
    """Metrics by name.

    Raises:
        ConfigError: if one is unknown.
    """
    known = {metric.name: metric for metric in metrics()}
    for name in names:
        if name not in known:
            choices = ", ".join(map(repr, known))
            raise ConfigError(f"there is no metric {name!r}; choose from {choices}.")
    return [known[name] for name in names]


def java_free() -> list[type[Metric]]:
    """Metrics that any machine can compute, such as those of the validation."""
    return [metric for metric in metrics() if not metric.needs_java]


def scores() -> list[Score]:
    """All scores in the order of tables: the one that systems are ranked by, then by metric."""
    listed = [score for metric in metrics() for score in metric.scores]
    return sorted(listed, key=lambda score: score.name != RANKING)


def validation_scores() -> list[str]:
    """Names of the scores that validation computes, and a run can choose its best epoch by."""
    free = {name for metric in java_free() for name in _names(metric)}
    return [score.name for score in scores() if score.name in free]


def find_score(name: str) -> Score:
    """What is known of a score, by its name in files.

    One on Python's tokens says so in its title. An unknown one (of a metric that is not
    installed here) has its name as title and the usual scale.
    """
    known = {score.name: score for score in scores()}
    base = name.removesuffix(PYTHON_SUFFIX)
    score = known.get(base, Score(base, base))
    if base == name:
        return score
    return replace(score, name=name, title=f"{score.title} (Python's tokens)")


def in_order(names: Sequence[str]) -> list[Score]:
    """Scores by name in the order of tables, official ones first, each once."""
    place = {score.name: i for i, score in enumerate(scores())}

    def key(name: str) -> tuple[bool, int, str]:
        base = name.removesuffix(PYTHON_SUFFIX)
        return base != name, place.get(base, len(place)), name

    return [find_score(name) for name in sorted(set(names), key=key)]


def most_important(names: Sequence[str], number: int) -> list[Score]:
    """The most important of some scores, at most `number`; official ones if there are any."""
    official = [name for name in names if not name.endswith(PYTHON_SUFFIX)]
    return sorted(in_order(official or names), key=lambda score: -score.importance)[:number]


def is_ranking(name: str) -> bool:
    """Whether a score is the one that systems are ranked by, on whichever tokens."""
    return name in (RANKING, RANKING + PYTHON_SUFFIX)


def ranking(values: Mapping[str, float]) -> tuple[float, float]:
    """What to sort systems by, the best last: the ranking score, then that on Python's tokens."""
    return values.get(RANKING, -1.0), values.get(RANKING + PYTHON_SUFFIX, -1.0)


def with_suffix(named: Mapping[str, _T]) -> dict[str, _T]:
    """The same under the names of scores on Python's tokens."""
    return {name + PYTHON_SUFFIX: value for name, value in named.items()}


@cache
def _import_definitions() -> None:
    from captionlab.metrics import definitions

    for module in pkgutil.iter_modules(definitions.__path__):
        importlib.import_module(f"{definitions.__name__}.{module.name}")
    for plugin in importlib.metadata.entry_points(group="captionlab.metrics"):
        plugin.load()  # of other packages


def _names(metric: type[Metric]) -> list[str]:
    return [score.name for score in metric.scores]
