"""Runs side by side: a table for the terminal, `results.csv`, `results.md` and a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console

from captionlab.errors import RunError
from captionlab.evaluation.result import Result, read_predictions
from captionlab.files import write_atomically
from captionlab.metrics import registry
from captionlab.metrics.protocol import Score
from captionlab.reports.differences import Differences, statistics_of
from captionlab.reports.groups import Group, Run, group_runs, labels_of
from captionlab.reports.plot import Panel, draw
from captionlab.reports.table import Cell, Column, Row, Table
from captionlab.run_files import RunFiles


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
    """

    name: str
    title: str
    read: Callable[[Result], float | None]
    scale: float = 1.0
    decimals: int = 0
    best: int = 0
    priority: int | None = 0

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


_HOW_TO_READ = (
    "Scores on the test split, x100 as papers print them, best in bold. *Blind* is the score of "
    "the same captions given to other images of the test split (mean over ten shuffles): the "
    "closer it is to the score itself, the less the model looks at the picture. *People* is each "
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

    Attributes:
        settings: dotted keys by which the finished runs differ.
        groups: of finished runs, the best ranking score first.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self.settings, groups, self._ungrouped = group_runs(runs)
        self._results = [result for group in groups for result in group.results]
        self.groups = sorted(groups, key=_rank)

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Comparison:
        """Read run folders; one that cannot be read counts as failed, with the reason."""
        return cls([Run.read(folder) for folder in folders])

    def print_table(self, console: Console | None = None) -> None:
        """Print the tables to a terminal, as wide as it is, or to a pipe in full."""
        console = console or Console(highlight=False)
        if self.groups:
            self.table().print(console)
        if self.differences is not None and len(self.groups) > 1:
            self.differences.against_best().print(console)
        for note in self._notes():
            console.print(note, style="red", markup=False, soft_wrap=True)

    def write(self, folder: Path) -> list[Path]:
        """Write `results.csv`, `results.md`, `significance.csv` and `comparison.png`.

        The same run folders give the same files.

        Returns:
            The paths of those that there was something to write into.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, str | bytes] = {
            "results.csv": self.runs_table().csv(),
            "results.md": self._markdown(),
        }
        if self.differences is not None:
            files["significance.csv"] = self.differences.every_pair().csv()
        if self.groups:
            files["comparison.png"] = draw([group.name for group in self.groups], self._panels())
        for name, content in files.items():
            write_atomically(folder / name, content)
        return [folder / name for name in files]

    def table(self) -> Table:
        """One row per group, and the human row."""
        numbers = [*self._scores(), *self._blind(), *_COSTS]
        numbers = [n for n in numbers if any(n.values(group) for group in self.groups)]
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
        people = self._people()
        if people:
            empty = [""] * (len(self.settings) - 1 + has_seeds)
            known = [n.shown([people[n.name]]) if n.name in people else "" for n in numbers]
            rows.append(Row(["people", *empty, *known], is_aside=True))
        seeds = ", mean over seeds ± standard deviation" if has_seeds else ""
        return Table(f"Test split, scores x100{seeds}", columns, rows)

    def runs_table(self) -> Table:
        """One row per run: settings, seed, state, every number at full precision."""
        numbers = [*self._scores(), *self._blind(), *_COSTS, *_MORE]
        numbers += self._part("language") + self._part("truth")
        titles = ["run", *self.settings, "seed", "state", *(number.name for number in numbers)]
        runs = [run for group in self.groups for run in (*group.runs, *group.failed)]
        rows = []
        for run in (*runs, *self._ungrouped):
            values = [None if run.result is None else n.read(run.result) for n in numbers]
            state = "failed" if run.result is None else "complete"
            labels = labels_of(run, self.settings)
            shown = ["" if value is None else repr(value) for value in values]
            rows.append(Row([run.folder.name, *labels, str(run.seed), state, *shown]))
        return Table("Runs", [Column(title) for title in titles], rows)

    @cached_property
    def differences(self) -> Differences | None:
        """Between groups; None where they did not score the same images."""
        try:
            read = [
                [read_predictions(RunFiles(run.folder).predictions_path) for run in group.runs]
                for group in self.groups
            ]
            systems = [[statistics_of(predictions) for predictions in runs] for runs in read]
        except (RunError, ValueError, LookupError):  # damaged, or made by another version
            return None
        if len({tuple(p.image_id for p in run) for runs in read for run in runs}) != 1:
            return None
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
        notes = [f"- {note}" for note in self._notes()]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"

    def _notes(self) -> list[str]:
        """Why scores or results are missing, and what to know before quoting them."""
        remarks = set()
        for group in self.groups:
            for result in group.results:
                remarks |= {f"{name}: {reason}" for name, reason in result.missing.items()}
                remarks |= {f"{group.name}: {text}" for text in result.warnings}
        failed = [run for run in self.runs if run.result is None]
        return sorted(remarks) + [f"no result: {run.folder.name}: {run.error}" for run in failed]

    def _scores(self) -> list[Number]:
        names = [name for result in self._results for name in result.scores]
        return [_number_of(score, "scores") for score in registry.in_order(names)]

    def _blind(self) -> list[Number]:
        """The blind score beside the one that runs are ranked by."""
        names = [name for result in self._results for name in result.blind]
        return [
            _number_of(score, "blind")
            for score in registry.in_order(names)
            if registry.is_ranking(score.name)
        ]

    def _part(self, part: str) -> list[Number]:
        """All numbers of one part of the results, as per cent."""
        names = dict.fromkeys(name for result in self._results for name in getattr(result, part))
        return [
            Number(f"{part}_{name}", name, partial(_read_part, part, name), 100, 1, 1)
            for name in names
        ]

    def _best(self, number: Number) -> float | None:
        """The best mean of any group; None where there is nothing to win."""
        if not number.best or len(self.groups) < 2:
            return None
        means = [fmean(values) for group in self.groups if (values := number.values(group))]
        return max(means, key=lambda mean: number.best * mean, default=None)

    def _people(self) -> dict[str, float]:
        """The human row; empty where the runs were scored on different images."""
        rows = [result.human for result in self._results]
        return rows[0] if rows and all(other == rows[0] for other in rows) else {}

    def _panels(self) -> list[Panel]:
        """The two most important scores, the ranking one beside its blind score."""
        names = [name for result in self._results for name in result.scores]
        blind = {number.name: number for number in self._blind()}
        panels = []
        for score in registry.most_important(names, 2):
            number = _number_of(score, "scores")
            beside = blind.get(f"blind_{score.name}")
            panels.append(
                Panel(
                    title=score.title,
                    scale=score.scale,
                    values=[number.values(group) for group in self.groups],
                    blind=[beside.values(group) if beside else [] for group in self.groups],
                    ends=self.differences.ends(score.name) if self.differences else [],
                )
            )
        return panels


def _rank(group: Group) -> tuple[float, float, tuple[str, ...]]:
    """Sorts the best first; those on Python's tokens come after the official ones."""
    ranked = [registry.ranking(result.scores) for result in group.results]
    official, python = (fmean(values) for values in zip(*ranked, strict=True))
    return -official, -python, group.labels


def _read_part(part: str, name: str, result: Result) -> float | None:
    value: float | None = getattr(result, part).get(name)
    return value


def _read_training(part: str, name: str | None, result: Result) -> float | None:
    if result.training is None:
        return None
    value = getattr(result.training, part)
    number: float | None = value if name is None else value.get(name)
    return number


def _number_of(score: Score, part: str) -> Number:
    """A score, or its blind score, as a column."""
    is_ranking = registry.is_ranking(score.name)
    read = partial(_read_part, part, score.name)
    if part == "blind":
        title, name = f"blind {score.title}", f"blind_{score.name}"
        return Number(name, title, read, score.scale, 1, 0, score.importance)
    best = 1 if score.higher_is_better else -1
    priority = None if is_ranking else score.importance
    return Number(score.name, score.title, read, score.scale, 1, best, priority)


def _cost(
    title: str, part: str, name: str | None, scale: float = 1, decimals: int = 0, priority: int = 0
) -> Number:
    column = part if name is None else f"{part}_{name}"
    read = partial(_read_training, part, name)
    return Number(column, title, read, scale, decimals, priority=priority)


# Parameters in millions, memory in GB.
_COSTS = (
    _cost("encoder M params", "parameters", "encoder", 1e-6, 1, priority=25),
    _cost("decoder M params", "parameters", "decoder", 1e-6, 1, priority=35),
    _cost("encode s", "seconds", "encode", priority=10),
    _cost("train s", "seconds", "train", priority=45),
    _cost("peak GB", "peak_memory_bytes", None, 1e-9, 2, priority=5),
)
_MORE = (  # for results.csv alone
    _cost("test s", "seconds", "test"),
    _cost("epochs", "epochs", None),
    _cost("best epoch", "best_epoch", None),
)
