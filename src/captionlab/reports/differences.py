"""Which differences between systems are real: intervals and paired tests."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from captionlab.metrics.resampling import CorpusStatistics
from captionlab.metrics.significance import Interval, PairedTest, compare

_SHOWN = {"cider_d": "CIDEr-D", "bleu_4": "BLEU-4", "meteor": "METEOR"}

_HOW_TO_READ = (
    "Differences from the best, x100. *Over images* (would these trained models differ on other "
    "images like these?): 95 % interval of the paired bootstrap, and p of approximate "
    "randomisation (of the bootstrap where the numbers of seeds differ). *Over seeds* (would the "
    "systems differ if trained again?): p of Welch's t-test, which needs two seeds of each. All p "
    "are two-sided and corrected after Holm for all pairs; `significance.csv` has every pair and "
    "score. What differs over images from one seed may still be the luck of that seed."
)


class Differences:
    """Intervals of systems' scores, and tests of each pair.

    Args:
        names: of the systems, the best first.
        systems: the runs of each, all on the same images in the same order.
    """

    def __init__(self, names: Sequence[str], systems: Sequence[Sequence[CorpusStatistics]]) -> None:
        self.names = list(names)
        self._found = compare(systems)

    @property
    def intervals(self) -> list[dict[str, Interval]]:
        """Per system, each score's interval over images."""
        return self._found.intervals

    def whiskers(self, score: str) -> list[tuple[float, float]]:
        """Ends of each system's 95 % interval; none if a system lacks the score."""
        if not all(score in each for each in self._found.intervals):
            return []
        return [(each[score].low, each[score].high) for each in self._found.intervals]

    def print_table(self, console: Console) -> None:
        """Print how far the others are from the best, and how sure that is."""
        titles, rows = self._against_best()
        if not rows:
            return
        table = Table(title=f"Differences from {self.names[0]}, x100", title_justify="left")
        for i, title in enumerate(titles):
            table.add_column(title, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        """The same table, and how to read it."""
        titles, rows = self._against_best()
        lines = [f"| {' | '.join(titles)} |", f"|:--|{'--:|' * (len(titles) - 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([*lines, "", _HOW_TO_READ])

    def csv(self) -> str:
        """Every pair and score at full precision; rows without a second system are intervals."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        titles = [field.name for field in fields(PairedTest)][2:]
        writer.writerow(["first", "second", "score", *titles])
        for name, intervals in zip(self.names, self._found.intervals, strict=True):
            for score, interval in intervals.items():
                ends = (interval.value, interval.low, interval.high)
                writer.writerow([name, "", score, *map(repr, ends), *[""] * (len(titles) - 3)])
        for test in self._found.tests:
            values = [getattr(test, title) for title in titles]
            shown = ["" if value is None else repr(value) for value in values]
            writer.writerow([*(self.names[i] for i in test.systems), test.score, *shown])
        return text.getvalue()

    def _against_best(self) -> tuple[list[str], list[list[str]]]:
        """Titles and cells of the differences from the first system."""
        tests = {(t.systems[1], t.score): t for t in self._found.tests if t.systems[0] == 0}
        wanted = {n + suffix: title for suffix in ("", "_pyptb") for n, title in _SHOWN.items()}
        scores = [name for name in wanted if (1, name) in tests]
        has_seeds = any(test.p_seeds is not None for test in tests.values())
        titles = ["system"]
        for score in scores:
            titles += [wanted[score], "p images", *(["p seeds"] if has_seeds else [])]
        rows = []
        for i, name in enumerate(self.names[1:], 1):
            row = [name]
            for score in scores:
                test = tests[i, score]
                low, high = -100 * test.high, -100 * test.low
                over_images = test.p_randomisation
                row.append(f"{-100 * test.difference:+.1f} [{low:+.1f}, {high:+.1f}]")
                row.append(_p(test.p_bootstrap if over_images is None else over_images))
                row += [_p(test.p_seeds)] if has_seeds else []
            rows.append(row)
        return titles, rows


def read_statistics(folder: Path) -> tuple[list[str], CorpusStatistics]:
    """Image ids of a run's `predictions.jsonl`, and what corpus scores sum over them."""
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["image_id"] for row in rows], statistics_of(rows)


def statistics_of(rows: Sequence[Mapping[str, Any]]) -> CorpusStatistics:
    """What corpus scores sum, of one entry per image with its `scores` and `statistics`."""

    def columns(part: str) -> dict[str, list[Any]]:
        return {name: [row[part][name] for row in rows] for name in rows[0][part]}

    return CorpusStatistics(columns("scores"), columns("statistics"))


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
