"""The report on evaluated captions: tables for the terminal, and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console

from captionlab.evaluation.result import Evaluation, Prediction
from captionlab.files import write_atomically
from captionlab.metrics import registry
from captionlab.metrics.protocol import Score
from captionlab.metrics.words import WordCount
from captionlab.reports.differences import Differences, statistics_of
from captionlab.reports.table import Cell, Column, Row, Table, print_note

_SHARES = ("distinct_captions", "most_common", "novel_captions", "distinct_1", "distinct_2")


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the files of one system; gives their paths.

    `scores.json` has every number, `per_image.csv` captions and scores by image, `words.csv`
    the words by category, and `captions_results.json` is what evaluation servers take.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"name": evaluation.name, "data": evaluation.data, **evaluation.result.to_json()}
    results = [
        {"image_id": _number(p.image_id), "caption": p.caption} for p in evaluation.predictions
    ]
    files = {
        "scores.json": json.dumps(summary, indent=2) + "\n",
        "per_image.csv": _per_image(evaluation.predictions).csv(),
        "words.csv": _words(evaluation.words).csv(),
        "captions_results.json": json.dumps(results, ensure_ascii=False) + "\n",
    }
    for name, text in files.items():
        write_atomically(folder / name, text)
    return [folder / name for name in files]


@dataclass(frozen=True)
class System:
    """Captions of one system, from one seed or several.

    Attributes:
        name: of the system.
        runs: one per seed, at least one.
    """

    name: str
    runs: Sequence[Evaluation]

    def values(self, part: str, name: str) -> list[float]:
        """A number of a part of the results, of each run that has it."""
        parts = (getattr(run.result, part) for run in self.runs)
        return [values[name] for values in parts if name in values]


def print_evaluations(systems: Sequence[System], console: Console) -> Differences:
    """Print scores, language and words of systems that were scored on the same images.

    Returns:
        Their intervals and the differences between them, the best first.
    """
    ranked = sorted(systems, key=_ranking, reverse=True)
    differences = Differences(
        [system.name for system in ranked],
        [[statistics_of(run.predictions) for run in system.runs] for system in ranked],
    )
    _score_table(ranked, differences).print(console)
    _language_table(ranked).print(console)
    _word_table(ranked[0]).print(console)
    for note in _notes([run for system in ranked for run in system.runs]):
        print_note(note, console)
    if len(ranked) > 1:
        differences.against_best().print(console)
    return differences


def _notes(runs: Sequence[Evaluation]) -> Iterator[str]:
    """What is missing, once where all runs miss it, and what to know before quoting scores."""
    missing: dict[str, list[str]] = {}
    for run in runs:
        for name, reason in run.result.missing.items():
            missing.setdefault(f"{name} is missing: {reason}", []).append(run.name)
    for reason, names in missing.items():
        yield reason if len(names) == len(runs) else f"{', '.join(names)}: {reason}"
    for run in runs:
        yield from (f"{run.name}: {warning}" for warning in run.result.warnings)


def _ranking(system: System) -> list[float]:
    rankings = [registry.ranking(run.result.scores) for run in system.runs]
    return [fmean(values) for values in zip(*rankings, strict=True)]


def _score_table(systems: Sequence[System], differences: Differences) -> Table:
    runs = [run for system in systems for run in system.runs]
    scores = registry.in_order([name for run in runs for name in run.result.scores])
    blind = [s for s in scores if registry.is_ranking(s.name) and s.name in runs[0].result.blind]
    has_seeds = len(runs) > len(systems)
    columns = [Column("system", is_text=True), *([Column("seeds")] if has_seeds else [])]
    for score in scores:
        is_ranking = registry.is_ranking(score.name)
        columns.append(Column(score.title, priority=None if is_ranking else score.importance))
    columns += [Column(f"blind {score.title}", priority=45) for score in blind]
    means = {
        score.name: [_mean(s.values("scores", score.name)) for s in systems] for score in scores
    }
    rows = []
    for system, intervals in zip(systems, differences.intervals, strict=True):
        cells: list[Cell | str] = [system.name, *([str(len(system.runs))] if has_seeds else [])]
        for score in scores:
            values = system.values("scores", score.name)
            text = _mean_and_deviation(values, score)
            if score.name in intervals:
                ends = (intervals[score.name].low, intervals[score.name].high)
                text += "\n" + "–".join(f"{score.scale * end:.1f}" for end in ends)
            known = [mean for mean in means[score.name] if mean is not None]
            best = (max if score.higher_is_better else min)(known)
            cells.append(Cell(text, len(systems) > 1 and _mean(values) == best))
        cells += [_mean_and_deviation(system.values("blind", score.name), score) for score in blind]
        rows.append(Row(cells))
    human = runs[0].result.human
    if human:
        people = [f"{s.scale * human[s.name]:.1f}" if s.name in human else "" for s in scores]
        label = ["people, one reference less", *([""] if has_seeds else [])]
        rows.append(Row([*label, *people, *[""] * len(blind)], is_aside=True))
    seeds = ", mean over seeds ± standard deviation" if has_seeds else ""
    title = (
        f"{runs[0].data}, {runs[0].result.num_images} images, scores x100{seeds} "
        "[95 % interval over images]"
    )
    return Table(title, columns, rows)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _mean_and_deviation(values: Sequence[float], score: Score) -> str:
    if not values:
        return "-"
    deviation = f" ±{score.scale * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{score.scale * fmean(values):.1f}{deviation}"


def _language_table(systems: Sequence[System]) -> Table:
    """A row per system, or, of a single one, a row per number."""
    parts = [
        (part, name)
        for part in ("language", "truth")
        for name in dict.fromkeys(
            n for s in systems for r in s.runs for n in getattr(r.result, part)
        )
    ]
    titles = [
        _truth_title(name) if part == "truth" else name.replace("_", " ") for part, name in parts
    ]
    rows = [
        [_language_cell(part, name, _mean(system.values(part, name))) for part, name in parts]
        for system in systems
    ]
    if len(systems) == 1:
        columns = [Column("", is_text=True), Column(systems[0].name)]
        return Table("Language", columns, [Row(pair) for pair in zip(titles, rows[0], strict=True)])
    columns = [Column("system", is_text=True)]
    columns += [Column(title, priority=-i) for i, title in enumerate(titles)]
    named = zip(systems, rows, strict=True)
    return Table("Language", columns, [Row([system.name, *cells]) for system, cells in named])


def _word_table(system: System) -> Table:
    """Of the system's first run."""
    columns = [
        Column("category", is_text=True),
        Column("recall"),
        Column("precision"),
        Column("most often missed", is_text=True),
        Column("most often wrong", is_text=True),
    ]
    rows = []
    counts = system.runs[0].words
    for total in counts:
        if total.word != "all" or not total.agreed + total.produced:
            continue
        words = [w for w in counts if w.category == total.category and w.word != "all"]
        missed = sorted(((w.agreed - w.found, w.word) for w in words), reverse=True)[:4]
        wrong = sorted(((w.produced - w.supported, w.word) for w in words), reverse=True)[:4]
        cells = [total.category, _share(total.recall), _share(total.precision)]
        for words_of_kind in (missed, wrong):
            cells.append(", ".join(f"{word} {number}" for number, word in words_of_kind if number))
        rows.append(Row(cells))
    return Table(
        f"Words of {system.runs[0].name}: recall of what people agree on, precision", columns, rows
    )


def _per_image(predictions: Sequence[Prediction]) -> Table:
    names = list(predictions[0].scores)
    rows = []
    for prediction in predictions:
        scores = (prediction.scores.get(name) for name in names)
        rows.append(Row([prediction.image_id, prediction.caption, *map(_exact, scores)]))
    return Table("Images", [Column(name) for name in ("image_id", "caption", *names)], rows)


def _words(words: Sequence[WordCount]) -> Table:
    titles = ["category", "word", "agreed", "found", "recall"]
    titles += ["produced", "supported", "precision"]
    rows = [Row([w.category, w.word, *(_exact(getattr(w, t)) for t in titles[2:])]) for w in words]
    return Table("Words", [Column(title) for title in titles], rows)


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)


def _truth_title(name: str) -> str:
    return f"true of the scene: {'whole caption' if name == 'all' else name}"


def _language_cell(part: str, name: str, value: float | None) -> str:
    if value is None:
        return ""
    if part == "truth" or name in _SHARES or name.startswith(("recall", "mbleu", "self")):
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _number(image_id: str) -> str | int:
    """COCO's ids are numbers; `012` is another program's name."""
    is_number = image_id.isdecimal() and str(int(image_id)) == image_id
    return int(image_id) if is_number else image_id
