"""Runs side by side: a table for the terminal, `results.csv`, `results.md` and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from rich.console import Console

from captionlab.errors import RunError
from captionlab.files import write_atomically
from captionlab.metrics import registry
from captionlab.metrics.student import smallest_difference
from captionlab.reports.differences import Differences
from captionlab.reports.figure import to_png, to_svg
from captionlab.reports.groups import (
    Group,
    Run,
    by_data_set,
    group_runs,
    labels_of,
    number_varied,
    without_result,
)
from captionlab.reports.numbers import (
    COSTS,
    CSV_ONLY,
    TRUE_CAPTIONS,
    Number,
    blind_number,
    score_number,
    share,
)
from captionlab.reports.page import render
from captionlab.reports.plot import MOST_CURVES, Panel, draw, draw_curves
from captionlab.reports.table import Cell, Column, Row, Table, print_note
from captionlab.run_files import RESULTS_VERSION, other_version

NUM_PHOTOS = 1000  # of a page; 10 MB of photos like those of Flickr8k
_HOW_TO_READ = (
    "Scores on the test split, x100 as papers print them, best in bold. *Blind* is the score of "
    "the same captions given to other images of the test split (mean over ten shuffles): the "
    "closer it is to the score itself, the less the captions depend on the image. *People* is each "
    "image's first reference scored against its others, one reference fewer than the models have. "
    "Encoding is paid once for all runs that share an encoder."
)
_TRUTH = (
    "Per cent of what the captions claim that is true of the drawn scene, by attribute; "
    "`all`: captions without a false claim."
)


class Comparison:
    """Complete and failed runs, averaged over seeds, the best first.

    Args:
        runs: from run folders.
        data: name of the data set that they were scored on; empty where it is not known.

    Attributes:
        settings: dotted keys by which the finished runs differ.
        groups: of finished runs, the best ranking score first.
    """

    def __init__(self, runs: Sequence[Run], data: str = "") -> None:
        self.runs, self._copies = _without_copies(runs)
        self.data = data
        self._no_differences: str | None = None
        self.settings, groups, self._ungrouped = group_runs(self.runs)
        self._results = [result for group in groups for result in group.results]
        self.groups = sorted(groups, key=_rank)

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Comparison:
        """Read run folders; one that cannot be read counts as failed, with the reason."""
        return cls([Run.read(folder) for folder in folders])

    @classmethod
    def read_each(cls, folders: Sequence[Path]) -> list[Comparison]:
        """Read run folders; runs of different data sets are compared apart."""
        parts = by_data_set([Run.read(folder) for folder in folders])
        return [cls(runs, data) for data, runs in parts.items()]

    def print_table(self, console: Console | None = None) -> None:
        """Print the tables to a terminal, as wide as it is, or to a pipe in full."""
        console = console or Console(highlight=False)
        if self.groups:
            self.table().print(console)
        if self.differences is not None and len(self.groups) > 1:
            self.differences.against_best().print(console)
        for note in self.notes:
            print_note(note, console)

    def write(self, folder: Path, num_photos: int = NUM_PHOTOS) -> list[Path]:
        """Write `index.html`, results as tables, `significance.csv` and `comparison.png`, `.svg`.

        The same run folders give the same files.

        Args:
            folder: created if need be.
            num_photos: how many photos the page shows at most.

        Returns:
            The paths of those that there was something to write into.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, str | bytes] = {
            "index.html": render(self, num_photos),
            "results.csv": self.runs_table().csv(),
            "results.md": self._markdown(),
        }
        if self.differences is not None:
            files["significance.csv"] = self.differences.every_pair().csv()
        if self.groups:
            figure = self._figure()
            files |= {"comparison.png": to_png(figure), "comparison.svg": to_svg(figure)}
        for name, content in files.items():
            write_atomically(folder / name, content)
        return [folder / name for name in files]

    def table(self) -> Table:
        """One row per group, and the human row."""
        numbers = [n for n in self.numbers if n.kind != "truth" or n == TRUE_CAPTIONS]
        has_seeds = any(len(group.runs) + len(group.failed) > 1 for group in self.groups)
        columns = [Column(key.removesuffix(".name"), is_text=True) for key in self.settings]
        columns += [Column("seeds")] if has_seeds else []
        columns += [Column(number.title, priority=number.priority) for number in numbers]
        best = {number.name: self._best(number) for number in numbers}
        rows = []
        for group in self.groups:
            cells: list[Cell | str] = [*group.labels, *([group.num_seeds] if has_seeds else [])]
            for number in numbers:
                values = number.values(group)
                is_best = bool(values) and fmean(values) == best[number.name]
                cells.append(Cell(number.shown(values), is_best))
            rows.append(Row(cells))
        people = self.people
        if people:
            empty = [""] * (len(self.settings) - 1 + has_seeds)
            known = [n.shown([people[n.name]]) if n.name in people else "" for n in numbers]
            rows.append(Row(["people", *empty, *known], is_aside=True))
        seeds = ", mean over seeds ± standard deviation" if has_seeds else ""
        split = f"Test split of {self.data}" if self.data else "Test split"
        return Table(f"{split}, scores x100{seeds}", columns, rows)

    def runs_table(self) -> Table:
        """One row per run: settings, seed, state, every number at full precision."""
        numbers = [*self._scores(), *self._blind(), *COSTS, *CSV_ONLY]
        numbers += self._part("language") + self._part("truth")
        titles = ["run", *self.settings, "seed", "state", *(number.name for number in numbers)]
        runs = [run for group in self.groups for run in (*group.runs, *group.failed)]
        rows = []
        for run in (*runs, *self._ungrouped):
            values = [None if run.result is None else n.read(run.result) for n in numbers]
            labels = labels_of(run.settings, self.settings)
            shown = ["" if value is None else repr(value) for value in values]
            rows.append(Row([run.folder.name, *labels, str(run.seed), run.state, *shown]))
        return Table("Runs", [Column(title) for title in titles], rows)

    @cached_property
    def differences(self) -> Differences | None:
        """Between groups; None where they did not score the same images, which the notes say."""
        if not self.groups:
            return None
        try:
            captions = [[run.captions for run in group.runs] for group in self.groups]
        except RunError as error:
            self._no_differences = f"no intervals and tests: {error}"
            return None
        if len({run.image_ids for runs in captions for run in runs}) != 1:
            self._no_differences = "no intervals and tests: the runs scored different images"
            return None
        if not set.intersection(*(set(run.statistics.names) for runs in captions for run in runs)):
            self._no_differences = "no intervals and tests: the runs have no score in common"
            return None
        systems = [[run.statistics for run in runs] for runs in captions]
        return Differences([group.name for group in self.groups], systems)

    def _markdown(self) -> str:
        parts = ["# Comparison"]
        if self.groups:
            shown = " and ".join(panel.title for panel in self._panels())
            parts += [self.table().markdown(), _HOW_TO_READ]
            parts.append(f"![{shown} of every run](comparison.png)")
        if self.differences is not None and len(self.groups) > 1:
            parts += ["## Which differences are real", self.differences.markdown()]
        truth = self._part("truth")
        if truth:
            columns = [Column("", is_text=True), *(Column(n.title) for n in truth)]
            rows = [Row([g.name, *(n.shown(n.values(g)) for n in truth)]) for g in self.groups]
            parts += ["## True of the scene", Table("", columns, rows).markdown(), _TRUTH]
        notes = [f"- {note}" for note in self.notes]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"

    @property
    def numbers(self) -> list[Number]:
        """What any group has of scores, blind scores, truth and costs."""
        truth = [number for number in self._part("truth") if number.name != "truth_all"]
        numbers = [*self._scores(), *self._blind(), TRUE_CAPTIONS, *COSTS, *truth]
        return [n for n in numbers if any(n.values(group) for group in self.groups)]

    @property
    def notes(self) -> list[str]:
        """Why scores or results are missing, and what to know before quoting them."""
        remarks = set()
        warned: dict[str, list[str]] = {}
        for group in self.groups:
            for text in dict.fromkeys(text for run in group.results for text in run.warnings):
                warned.setdefault(text, []).append(group.name)
            for result in group.results:
                remarks |= {f"{name}: {reason}" for name, reason in result.missing.items()}
        for text, names in warned.items():
            of_all = len(names) == len(self.groups)
            remarks |= {text} if of_all else {f"{name}: {text}" for name in names}
        if self.differences is None and self._no_differences:
            remarks.add(self._no_differences)
        for copy, original in self._copies.items():
            remarks.add(f"{copy} is the same run as {original}, and counts once")
        for version in {run.version for run in self.runs} - {RESULTS_VERSION}:
            names = [run.folder.name for run in self.runs if run.version == version]
            remarks.add(f"{', '.join(names)}: {other_version(version)}")
        return [*sorted(remarks), *self._what_seeds_show(), *without_result(self.runs)]

    def _what_seeds_show(self) -> list[str]:
        """How large a difference must be for so many seeds to find it."""
        number = next((n for n in self._scores() if registry.is_ranking(n.name)), None)
        values = [number.values(group) for group in self.groups] if number is not None else []
        repeated = [of_group for of_group in values if len(of_group) > 1]
        if number is None or len(repeated) < 2:
            return []
        deviation = number.scale * math.sqrt(fmean(stdev(of_group) ** 2 for of_group in repeated))
        num_seeds = min(map(len, repeated))
        more = 5 if num_seeds < 5 else 2 * num_seeds
        shown, with_more = (f"{smallest_difference(deviation, n):.1f}" for n in (num_seeds, more))
        return [
            f"with {num_seeds} seeds per system and a standard deviation of {deviation:.1f} "
            f"{number.title} over seeds, Welch's t-test (p seeds < 0.05) detects a true difference "
            f"of {shown} with a power of 80 %; with {more} seeds, one of {with_more}"
        ]

    def _scores(self) -> list[Number]:
        names = [name for result in self._results for name in result.scores]
        return [score_number(score) for score in registry.in_order(names)]

    def _blind(self) -> list[Number]:
        """The blind score beside the one that runs are ranked by."""
        names = [name for result in self._results for name in result.blind]
        ranking = [score for score in registry.in_order(names) if registry.is_ranking(score.name)]
        return [blind_number(score) for score in ranking]

    def _part(self, part: Literal["truth", "language"]) -> list[Number]:
        """All numbers of one part of the results, as per cent."""
        names = dict.fromkeys(name for result in self._results for name in getattr(result, part))
        return [share(part, name) for name in names]

    def _best(self, number: Number) -> float | None:
        """The best mean of any group; None where there is nothing to win."""
        if not number.best or len(self.groups) < 2:
            return None
        means = [fmean(values) for group in self.groups if (values := number.values(group))]
        return max(means, key=lambda mean: number.best * mean, default=None)

    @property
    def people(self) -> dict[str, float]:
        """The human row; empty where the runs were scored on different images."""
        rows = [result.human for result in self._results]
        return rows[0] if rows and all(other == rows[0] for other in rows) else {}

    def _figure(self) -> Any:
        """Curves over the number that was varied, or bars where none was."""
        number = number_varied(self.groups)
        if number is not None:
            curves: dict[str, dict[float, int]] = {}
            for i, group in enumerate(self.groups):
                others = group.name_without(self.settings[number])
                curves.setdefault(others, {})[float(group.labels[number])] = i
            all_apart = sum(map(len, curves.values())) == len(self.groups)  # not so 1 and 1.0
            if all_apart and len(curves) <= MOST_CURVES:
                return draw_curves(self.settings[number], curves, self._panels())
        return draw([group.name for group in self.groups], self._panels())

    def _panels(self) -> list[Panel]:
        """The two most important scores, the ranking one beside its blind score."""
        names = [name for result in self._results for name in result.scores]
        blind = {number.name: number for number in self._blind()}
        panels = []
        for score in registry.most_important(names, 2):
            number = score_number(score)
            beside = blind.get(f"blind_{score.name}")
            panels.append(
                Panel(
                    title=score.title,
                    scale=score.scale,
                    values=[number.values(group) for group in self.groups],
                    blind=[beside.values(group) if beside else [] for group in self.groups],
                    ends=self.differences.ends(score.name) if self.differences else [],
                    people=self.people.get(score.name),
                )
            )
        return panels


def _rank(group: Group) -> tuple[list[float], tuple[str, ...]]:
    """Sorts the best first; scores that are not official come after those that are."""
    ranked = [registry.ranking(result.scores) for result in group.results]
    return [-fmean(values) for values in zip(*ranked, strict=True)], group.labels


def _without_copies(runs: Sequence[Run]) -> tuple[list[Run], dict[Path, Path]]:
    """The runs, each once; and folders that are copies of others, with those."""
    kept: dict[str, Run] = {}
    copies: dict[Path, Path] = {}
    for run in runs:
        identity = run.manifest.get("identity") if run.result is not None else None
        made = [run.config.get("name"), identity] if identity else [str(run.folder)]
        original = kept.setdefault(json.dumps(made, sort_keys=True), run)
        if original is not run:
            copies[run.folder] = original.folder
    return list(kept.values()), copies
