"""The numbers that runs are compared by: scores, blind scores, truth, language and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Literal

from captionlab.evaluation.result import Result
from captionlab.metrics import registry
from captionlab.metrics.protocol import Score
from captionlab.reports.groups import Group

Kind = Literal["score", "blind", "cost", "truth", "language"]


@dataclass(frozen=True)
class Number:
    """A number that runs are compared by.

    Attributes:
        name: of its column in `results.csv`.
        title: of its column in tables.
        read: takes it from a result; None where that has none.
        scale: what tables multiply it by.
        decimals: in tables.
        best: whether more (1) or less (-1) is better, 0 where neither is.
        priority: as of `Column`.
        kind: what it measures.
    """

    name: str
    title: str
    read: Callable[[Result], float | None]
    scale: float = 1.0
    decimals: int = 0
    best: int = 0
    priority: int | None = 0
    kind: Kind = "cost"

    def values(self, group: Group) -> list[float]:
        """One per run that has it."""
        read = (self.read(result) for result in group.results)
        return [value for value in read if value is not None]

    def shown(self, values: Sequence[float]) -> str:
        """The mean, with the deviation over seeds where there are several."""
        if not values:
            return "-"
        text = f"{self.scale * fmean(values):.{self.decimals}f}"
        if len(values) > 1 and self.best:
            text += f" ±{self.scale * stdev(values):.{self.decimals}f}"
        return text


def score_number(score: Score) -> Number:
    """A score of the test split."""
    return Number(
        score.name,
        score.title,
        partial(_read_part, "scores", score.name),
        score.scale,
        decimals=1,
        best=1 if score.higher_is_better else -1,
        priority=None if registry.is_ranking(score.name) else score.importance,
        kind="score",
    )


def blind_number(score: Score) -> Number:
    """The score of the same captions given to other images."""
    return Number(
        f"blind_{score.name}",
        f"blind {score.title}",
        partial(_read_part, "blind", score.name),
        score.scale,
        decimals=1,
        priority=score.importance,
        kind="blind",
    )


def share(part: Literal["truth", "language"], name: str) -> Number:
    """A number of that part of the results, as per cent."""
    return Number(f"{part}_{name}", name, partial(_read_part, part, name), 100, 1, 1, kind=part)


def _read_part(part: str, name: str, result: Result) -> float | None:
    value: float | None = getattr(result, part).get(name)
    return value


def _read_training(part: str, name: str | None, result: Result) -> float | None:
    if result.training is None:
        return None
    value = getattr(result.training, part)
    number: float | None = value if name is None else value.get(name)
    return number


def _cost(
    title: str, part: str, name: str | None, scale: float = 1, decimals: int = 0, priority: int = 0
) -> Number:
    column = part if name is None else f"{part}_{name}"
    read = partial(_read_training, part, name)
    return Number(column, title, read, scale, decimals, priority=priority)


TRUE_CAPTIONS = Number(
    "true", "true captions", partial(_read_part, "truth", "all"), 100, 1, 1, 95, "truth"
)
# Parameters in millions, memory in GB.
COSTS = (
    _cost("encoder M params", "parameters", "encoder", 1e-6, 1, priority=25),
    _cost("decoder M params", "parameters", "decoder", 1e-6, 1, priority=35),
    _cost("encode s", "seconds", "encode", priority=10),
    _cost("train s", "seconds", "train", priority=45),
    _cost("peak GB", "peak_memory_bytes", None, 1e-9, 2, priority=5),
)
CSV_ONLY = (  # for results.csv alone
    _cost("test s", "seconds", "test"),
    _cost("epochs", "epochs", None),
    _cost("best epoch", "best_epoch", None),
)
