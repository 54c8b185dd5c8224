"""Runs side by side: a table for the terminal, `results.csv`, `results.md` and a plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from captionlab.files import write_atomically
from captionlab.reports.differences import Differences, read_statistics
from captionlab.reports.plot import draw

_RANKED_BY = "cider_d"


class Column(NamedTuple):
    """A number that runs are compared by.

    Attributes:
        title: in tables.
        path: where it lies in `result.json`.
        scale: what a table multiplies it by.
        decimals: in tables.
        best: whether more (1) or less (-1) is better, 0 where neither is.
    """

    title: str
    path: tuple[str, ...]
    scale: float
    decimals: int
    best: int


# Scores x100, as papers print them; parameters in millions, memory in GB.
COLUMNS = (
    Column("BLEU-1", ("scores", "bleu_1"), 100, 1, 1),
    Column("BLEU-2", ("scores", "bleu_2"), 100, 1, 1),
    Column("BLEU-3", ("scores", "bleu_3"), 100, 1, 1),
    Column("BLEU-4", ("scores", "bleu_4"), 100, 1, 1),
    Column("METEOR", ("scores", "meteor"), 100, 1, 1),
    Column("ROUGE-L", ("scores", "rouge_l"), 100, 1, 1),
    Column("CIDEr-D", ("scores", "cider_d"), 100, 1, 1),
    Column("blind CIDEr-D", ("blind", "cider_d"), 100, 1, 0),
    Column("encoder M params", ("parameters", "encoder"), 1e-6, 1, 0),
    Column("decoder M params", ("parameters", "decoder"), 1e-6, 1, 0),
    Column("encode s", ("seconds", "encode"), 1, 0, 0),
    Column("train s", ("seconds", "train"), 1, 0, 0),
    Column("peak GB", ("peak_memory_bytes",), 1e-9, 2, 0),
)

_PEOPLE = "people"  # the human row

_HOW_TO_READ = (
    "Scores on the test split, x100 as papers print them, best in bold. *Blind* is the score of "
    "the same captions given to other images of the test split (mean over ten shuffles): the "
    "closer it is to CIDEr-D, the less the model looks at the picture. *People* is each image's "
    "first reference scored against its others, one reference fewer than the models have. "
    "Encoding is paid once for all runs that share an encoder."
)


@dataclass
class Run:
    """One run folder, as far as it can be read.

    Attributes:
        folder: of the run.
        config: resolved.
        result: None unless complete.
        error: why it has no result.
    """

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None

    def value(self, path: Sequence[str]) -> float | None:
        """A number of the result, None where it is missing."""
        found: Any = self.result
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int | float) else None


@dataclass
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
        labels: the settings by which groups differ, in the order of `Comparison.settings`.
        runs: at least one, complete or not.
    """

    labels: tuple[str, ...]
    runs: list[Run] = field(default_factory=list)

    def values(self, column: Column) -> list[float]:
        """One number per run that has it."""
        found = (run.value(column.path) for run in self.runs)
        return [value for value in found if value is not None]

    @property
    def name(self) -> str:
        """The labels, or the folder of the only run."""
        return " ".join(self.labels) or self.runs[0].folder.name

    @property
    def errors(self) -> list[str]:
        """Why runs have no result, a line each."""
        return [run.error for run in self.runs if run.error is not None]

    @property
    def remarks(self) -> set[str]:
        """Why scores are missing from results, and what to know before quoting them."""
        results = [run.result for run in self.runs if run.result]
        missing = {f"{m}: {why}" for each in results for m, why in each["missing"].items()}
        return missing | {f"{self.name}: {told}" for each in results for told in each["warnings"]}


class Comparison:
    """Complete and failed runs, averaged over seeds, best CIDEr-D first.

    Args:
        runs: from run folders.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        flat = [_flatten(run.config) for run in runs]
        self.settings = _settings(flat)
        groups: dict[tuple[str, ...], Group] = {}
        for run, values in zip(runs, flat, strict=True):
            labels = tuple(str(values.get(key, "-")) for key in self.settings)
            groups.setdefault(labels, Group(labels)).runs.append(run)
        ranking = next(column for column in COLUMNS if column.path[-1] == _RANKED_BY)
        self.groups = sorted(
            groups.values(),
            key=lambda group: (-fmean(group.values(ranking) or [-1.0]), group.labels),
        )

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Comparison:
        """Read run folders; one that cannot be read counts as failed, with the reason."""
        return cls([_read_run(folder) for folder in folders])

    def print_table(self, console: Console | None = None) -> None:
        """Print the table to a terminal, as wide as it is, or to a pipe in full."""
        if console is None:
            console = Console(width=None if Console().is_terminal else 160, highlight=False)
        narrow = console.width < 130
        columns = [c for c in self._columns() if not narrow or c.title not in ("BLEU-2", "BLEU-3")]
        seeds = ", mean over seeds ± standard deviation" if self._has_seeds else ""
        table = Table(title=f"Test split, scores x100{seeds}", title_justify="left")
        for key in self.settings:
            table.add_column(_short(key), no_wrap=True)
        if self._has_seeds:
            table.add_column("seeds", justify="right")
        for column in columns:
            table.add_column(column.title, justify="right")
        for group, cells in self._rows(columns):
            bold = [Text(text, style="bold" if best else "") for text, best in cells]
            number = [str(len(group.runs))] if self._has_seeds else []
            table.add_row(*map(Text, group.labels), *number, *bold)
        people = self._people(columns)
        if people:
            empty = [""] * (len(self.settings) - 1 + self._has_seeds)
            table.add_row(_PEOPLE, *empty, *people, style="dim")
        console.print(table)
        if self.differences is not None:
            self.differences.print_table(console)
        for note in self._notes():
            console.print(note, style="red", markup=False, soft_wrap=True)

    def write(self, folder: Path) -> list[Path]:
        """Write `results.csv`, `significance.csv`, `results.md` and `comparison.png`.

        The same run folders give the same files.

        Returns:
            The paths of those that there was something to write into.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "results.csv", folder / "results.md"]
        write_atomically(written[0], self._csv().encode())
        write_atomically(written[1], self._markdown().encode())
        if self.differences is not None:
            written.append(folder / "significance.csv")
            write_atomically(written[-1], self.differences.csv().encode())
        drawn = self.tested
        if drawn:
            written.append(folder / "comparison.png")
            score = next(c for c in COLUMNS if c.title == "CIDEr-D")
            blind = next(c for c in COLUMNS if c.title == "blind CIDEr-D")
            bleu = next(c for c in COLUMNS if c.title == "BLEU-4")
            picture = draw(
                [group.name for group in drawn],
                [[100 * value for value in group.values(score)] for group in drawn],
                [[100 * value for value in group.values(blind)] for group in drawn],
                [[100 * value for value in group.values(bleu)] for group in drawn],
                self.differences.whiskers("cider_d") if self.differences else [],
                self.differences.whiskers("bleu_4") if self.differences else [],
            )
            write_atomically(written[-1], picture)
        return written

    @cached_property
    def differences(self) -> Differences | None:
        """Between groups with results; None where they did not score the same images."""
        try:
            read = [
                [read_statistics(run.folder) for run in group.runs if run.result]
                for group in self.tested
            ]
        except (OSError, ValueError, LookupError):  # made by another version, or damaged
            return None
        if len({tuple(ids) for runs in read for ids, _ in runs}) != 1:
            return None
        names = [group.name for group in self.tested]
        return Differences(names, [[statistics for _, statistics in runs] for runs in read])

    @cached_property
    def tested(self) -> list[Group]:
        """Groups that have a result."""
        return [group for group in self.groups if any(run.result for run in group.runs)]

    def _truth_markdown(self) -> str:
        paths = self._paths("truth")
        columns = [Column(path[1], path, 100, 1, 1) for path in paths]
        lines = [f"| | {' | '.join(c.title for c in columns)} |", f"|:--|{'--:|' * len(columns)}"]
        for group in self.tested:
            shown = [_cell(group.values(column), column) for column in columns]
            lines.append(f"| {' | '.join([group.name, *shown])} |")
        told = (
            "Per cent of what the captions claim that is true of the drawn scene, by attribute; "
            "`all`: captions without a false claim."
        )
        return "\n".join(lines) + "\n\n" + told

    def _people(self, columns: Sequence[Column]) -> list[str]:
        """Cells of the human row; none where the runs were scored on different images."""
        rows = [run.result["human"] for run in self.runs if run.result]
        if not rows or not rows[0] or any(other != rows[0] for other in rows):
            return []
        known = {("scores", name): value for name, value in rows[0].items()}
        return [_cell([known[c.path]], c) if c.path in known else "" for c in columns]

    def _paths(self, part: str) -> list[tuple[str, str]]:
        """Where the results have the numbers of one of their parts."""
        found = [run.result[part] for run in self.runs if run.result]
        return [(part, key) for key in dict.fromkeys(key for each in found for key in each)]

    @property
    def _has_seeds(self) -> bool:
        return any(len(group.runs) > 1 for group in self.groups)

    def _columns(self) -> list[Column]:
        """Those that a run has a number for."""
        return [c for c in COLUMNS if any(group.values(c) for group in self.groups)]

    def _rows(self, columns: Sequence[Column]) -> Iterator[tuple[Group, list[tuple[str, bool]]]]:
        """Each group's cells, as text and whether it is the best of its column."""
        best = {}
        for column in columns:
            means = [fmean(group.values(column)) for group in self.groups if group.values(column)]
            best[column] = max(means, key=lambda mean: column.best * mean, default=None)
        for group in self.groups:
            cells = []
            for column in columns:
                values = group.values(column)
                is_best = bool(values and column.best and fmean(values) == best[column])
                cells.append((_cell(values, column), is_best and len(self.groups) > 1))
            yield group, cells

    def _notes(self) -> list[str]:
        notes = sorted({remark for group in self.groups for remark in group.remarks})
        for group in self.groups:
            notes += [f"no result: {' '.join(group.labels)}: {error}" for error in group.errors]
        return notes

    def _csv(self) -> str:
        """One row per run: folder, settings, seed, state, every number at full precision."""
        paths: list[tuple[str, ...]] = list(self._paths("scores"))
        paths += [column.path for column in COLUMNS if column.path[0] != "scores"]
        paths += [("seconds", "test"), ("epochs",), ("best_epoch",)]
        paths += self._paths("language") + self._paths("truth")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        titles = ["_".join(p[1:] if p[0] == "scores" else p) for p in paths]
        writer.writerow(["run", *self.settings, "seed", "state", *titles])
        for group in self.groups:
            for run in group.runs:
                state = "complete" if run.error is None else "failed"
                values = ["" if (v := run.value(path)) is None else repr(v) for path in paths]
                seed = run.config.get("seed", "")
                writer.writerow([run.folder.name, *group.labels, seed, state, *values])
        return text.getvalue()

    def _markdown(self) -> str:
        columns = self._columns()
        seeds = ["seeds"] if self._has_seeds else []
        titles = [*map(_short, self.settings), *seeds, *(column.title for column in columns)]
        lines = [f"| {' | '.join(titles)} |"]
        left = [":--"] * len(self.settings)
        lines.append(f"|{'|'.join([*left, *['--:'] * (len(titles) - len(left))])}|")
        for group, cells in self._rows(columns):
            shown = [f"**{text}**" if best else text for text, best in cells]
            number = [str(len(group.runs))] if seeds else []
            lines.append(f"| {' | '.join([*group.labels, *number, *shown])} |")
        people = self._people(columns)
        if people:
            empty = [""] * (len(self.settings) - 1 + len(seeds))
            lines.append(f"| {' | '.join([f'*{_PEOPLE}*', *empty, *people])} |")
        notes = [f"- {note}" for note in self._notes()]
        parts = ["# Comparison", "\n".join(lines), _HOW_TO_READ]
        if self.tested:
            parts.append("![CIDEr-D and BLEU-4 of every run](comparison.png)")
        if self.differences is not None and len(self.tested) > 1:
            parts += ["## Which differences are real", self.differences.markdown()]
        if self._paths("truth"):
            parts += ["## True of the scene", self._truth_markdown()]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"


def _read_run(folder: Path) -> Run:
    config: dict[str, Any] = {}
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        if status["state"] != "complete":
            # A killed run has no error, and its state is still `running`.
            unfinished = f"not finished (state: {status['state']}); its command goes on with it"
            return Run(folder, config, None, (status["error"] or unfinished).splitlines()[0])
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return Run(folder, config, result, None)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = f"{folder} cannot be read ({type(error).__name__}: {error})"
        return Run(folder, config, None, " ".join(reason.split()))


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _settings(flat: Sequence[dict[str, Any]]) -> list[str]:
    """The settings by which the runs differ, but for the seed and what a group's name implies."""
    keys = list(dict.fromkeys(key for values in flat for key in values))
    differing = [k for k in keys if k != "seed" and len({repr(v.get(k)) for v in flat}) > 1]
    names = [key for key in differing if key.count(".") == 1 and key.endswith(".name")]
    # What a run is called by, where nothing differs.
    names = names or [key for key in ("encoder.name", "decoder.name") if key in keys]
    told = {tuple(v.get(name) for name in names) for v in flat}
    chosen = list(names)
    for key in differing:
        if key in names:
            continue
        more = {(*(v.get(name) for name in chosen), repr(v.get(key))) for v in flat}
        if len(more) > len(told):
            chosen.append(key)
            told = {tuple(repr(v.get(name)) for name in chosen) for v in flat}
    return chosen


def _short(key: str) -> str:
    return key.removesuffix(".name")


def _cell(values: Sequence[float], column: Column) -> str:
    if not values:
        return "-"
    text = f"{column.scale * fmean(values):.{column.decimals}f}"
    if len(values) > 1 and column.best:
        text += f" ±{column.scale * stdev(values):.{column.decimals}f}"
    return text
