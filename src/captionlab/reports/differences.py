"""Which differences between systems are real: intervals and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

from captionlab.evaluation.result import Prediction
from captionlab.metrics import registry
from captionlab.metrics.protocol import Score
from captionlab.metrics.resampling import CorpusStatistics
from captionlab.metrics.significance import NUM_RESAMPLES, Interval, PairedTest, compare
from captionlab.reports.table import Column, Row, Table

_NUM_SHOWN = 3  # scores; significance.csv has all
# Systems of which every pair is tested. 10,000 resamples give no p below 1e-4, which is above 0.05
# when corrected for the 528 pairs of 33 systems: more systems take more resamples.
_MOST_PAIRED = 32

_HOW_TO_READ = (
    "Differences from the best, x100. *Over images* (would these trained models differ on other "
    "images like these?): 95 % interval of the paired bootstrap, and p of approximate "
    "randomisation (of the bootstrap where the numbers of seeds differ). *Over seeds* (would the "
    "systems differ if trained again?): p of Welch's t-test, which needs two seeds of each. All p "
    f"are two-sided and corrected after Holm for all pairs (of more than {_MOST_PAIRED} systems, "
    "only those with the best are tested); `significance.csv` has every pair and score. What "
    "differs over images from one seed may still be the luck of that seed."
)


class Differences:
    """Intervals of systems' scores, and tests of each pair.

    Of more than 32 systems, only pairs with the best are tested; which is the best is known from
    the same images, so that p-values are corrected for all pairs.

    Args:
        names: of the systems, the best first.
        systems: the runs of each, all on the same images in the same order.

    Attributes:
        intervals: per system, score name to interval over images.
        tests: of every pair and score.
    """

    def __init__(self, names: Sequence[str], systems: Sequence[Sequence[CorpusStatistics]]) -> None:
        self.names = list(names)
        of_best = [(0, i) for i in range(1, len(systems))]
        share = math.comb(len(systems), 2) / math.comb(_MOST_PAIRED, 2)
        significance = compare(
            systems,
            NUM_RESAMPLES * max(1, math.ceil(share)),
            pairs=of_best if len(systems) > _MOST_PAIRED else None,
        )
        self.intervals: list[dict[str, Interval]] = significance.intervals
        self.tests: list[PairedTest] = significance.tests

    def ends(self, score: str) -> list[tuple[float, float]]:
        """Ends of each system's 95 % interval; none if a system lacks the score."""
        if not all(score in intervals for intervals in self.intervals):
            return []
        return [(intervals[score].low, intervals[score].high) for intervals in self.intervals]

    def against_best(self) -> Table:
        """How far the others are from the best in the most important scores, and how sure that is.

        It has no rows for a single system.
        """
        tests = {(t.systems[1], t.score): t for t in self.tests if t.systems[0] == 0}
        scores = registry.most_important([name for _, name in tests], _NUM_SHOWN)
        has_seeds = any(test.p_seeds is not None for test in tests.values())
        columns = [Column("system", is_text=True)]
        for score in scores:
            titles = [score.title, "p images", *(["p seeds"] if has_seeds else [])]
            priority = None if score is scores[0] else score.importance
            columns += [Column(title, priority=priority) for title in titles]
        rows = []
        for i, name in enumerate(self.names[1:], 1):
            cells = [name]
            for score in scores:
                test = tests[i, score.name]
                over_images = test.p_randomisation
                cells.append(_difference(test, score))
                cells.append(_p(test.p_bootstrap if over_images is None else over_images))
                cells += [_p(test.p_seeds)] if has_seeds else []
            rows.append(Row(cells))
        return Table(f"Differences from {self.names[0]}, x100", columns, rows)

    def markdown(self) -> str:
        """The differences from the best, and how to read them."""
        return f"{self.against_best().markdown()}\n\n{_HOW_TO_READ}"

    def every_pair(self) -> Table:
        """Every pair and score at full precision; rows without a second system are intervals."""
        titles = [field.name for field in fields(PairedTest)][2:]
        rows = []
        for name, intervals in zip(self.names, self.intervals, strict=True):
            for score, interval in intervals.items():
                ends = (interval.value, interval.low, interval.high)
                empty = [""] * (len(titles) - len(ends))
                rows.append(Row([name, "", score, *map(repr, ends), *empty]))
        for test in self.tests:
            values = [getattr(test, title) for title in titles]
            shown = ["" if value is None else repr(value) for value in values]
            rows.append(Row([*(self.names[i] for i in test.systems), test.score, *shown]))
        columns = [Column(title) for title in ("first", "second", "score", *titles)]
        return Table("Significance", columns, rows)


def statistics_of(predictions: Sequence[Prediction]) -> CorpusStatistics:
    """What corpus scores sum, of one prediction per image.

    Raises:
        ValueError: if there are none, or nothing that is summed.
        LookupError: if predictions have different scores.
    """
    first = predictions[0]
    return CorpusStatistics(
        {name: [p.scores[name] for p in predictions] for name in first.scores},
        {name: [p.statistics[name] for p in predictions] for name in first.statistics},
    )


def _difference(test: PairedTest, score: Score) -> str:
    """The second system's score less the first's, with its interval."""
    values = (test.difference, test.high, test.low)
    difference, low, high = (-score.scale * value for value in values)
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
