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
# At the end of a score's name, so that it is never taken for the official one.
PYTHON_SUFFIX = "_pyptb"  # Python's tokens in place of Stanford's
CLEANED_SUFFIX = "_cleaned"  # references and captions without punctuation, hyphens as spaces
SUFFIXES = {
    "": "",
    PYTHON_SUFFIX: "Python's tokens",
    CLEANED_SUFFIX: "cleaned",
    PYTHON_SUFFIX + CLEANED_SUFFIX: "cleaned, Python's tokens",
}

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

    One that is not official says so in its title. An unknown one (of a metric that is not
    installed here) has its name as title and the usual scale.
    """
    known = {score.name: score for score in scores()}
    base, suffix = _split(name)
    score = known.get(base, Score(base, base))
    if not suffix:
        return score
    return replace(score, name=name, title=f"{score.title} ({SUFFIXES[suffix]})")


def in_order(names: Sequence[str]) -> list[Score]:
    """Scores by name in the order of tables, official ones first, each once."""
    place = {score.name: i for i, score in enumerate(scores())}

    def key(name: str) -> tuple[int, int, str]:
        base, suffix = _split(name)
        return list(SUFFIXES).index(suffix), place.get(base, len(place)), name

    return [find_score(name) for name in sorted(set(names), key=key)]


def most_important(names: Sequence[str], number: int) -> list[Score]:
    """The most important of some scores, at most `number`; official ones if there are any."""
    official = [name for name in names if not _split(name)[1]]
    return sorted(in_order(official or names), key=lambda score: -score.importance)[:number]


def is_ranking(name: str) -> bool:
    """Whether a score is the one that systems are ranked by, official or not."""
    return _split(name)[0] == RANKING


def ranking(values: Mapping[str, float]) -> tuple[float, ...]:
    """What to sort systems by, the best last: the ranking score, the official one first."""
    return tuple(values.get(RANKING + suffix, -1.0) for suffix in SUFFIXES)


def with_suffix(named: Mapping[str, _T], suffix: str) -> dict[str, _T]:
    """The same under names that end in one of `SUFFIXES`."""
    return {name + suffix: value for name, value in named.items()}


def _split(name: str) -> tuple[str, str]:
    """A score's official name, and which of `SUFFIXES` it has."""
    suffix = max((s for s in SUFFIXES if name.endswith(s)), key=len)
    return name.removesuffix(suffix), suffix


@cache
def _import_definitions() -> None:
    from captionlab.metrics import definitions

    for module in pkgutil.iter_modules(definitions.__path__):
        importlib.import_module(f"{definitions.__name__}.{module.name}")
    for plugin in importlib.metadata.entry_points(group="captionlab.metrics"):
        plugin.load()  # of other packages


def _names(metric: type[Metric]) -> list[str]:
    return [score.name for score in metric.scores]
