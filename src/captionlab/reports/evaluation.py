"""The report on evaluated captions: tables for the terminal, and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from captionlab.evaluation.result import Evaluation, Prediction
from captionlab.files import write_atomically
from captionlab.metrics import registry
from captionlab.metrics.protocol import Score
from captionlab.metrics.words import WordCount
from captionlab.reports.differences import Differences, statistics_of
from captionlab.reports.table import Column, Row, Table

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


def print_evaluations(systems: Sequence[Evaluation], console: Console) -> Differences:
    """Print scores, language and words of systems that were scored on the same images.

    Returns:
        Their intervals and the differences between them, the best first.
    """
    ranked = sorted(systems, key=lambda s: registry.ranking(s.result.scores), reverse=True)
    differences = Differences(
        [system.name for system in ranked],
        [[statistics_of(system.predictions)] for system in ranked],
    )
    _score_table(ranked, differences).print(console)
    _language_table(ranked).print(console)
    _word_table(ranked[0]).print(console)
    for system in ranked:
        for name, reason in system.result.missing.items():
            console.print(f"{system.name}: {name} is missing: {reason}", style="red", markup=False)
        for warning in system.result.warnings:
            console.print(f"{system.name}: {warning}", style="red", markup=False)
    if len(ranked) > 1:
        differences.against_best().print(console)
    return differences


def _score_table(systems: Sequence[Evaluation], differences: Differences) -> Table:
    names = [name for system in systems for name in system.result.scores]
    scores = registry.in_order(names)
    columns = [Column("system", is_text=True)]
    for score in scores:
        is_ranking = registry.is_ranking(score.name)
        columns.append(Column(score.title, priority=None if is_ranking else score.importance))
    rows = []
    for system, intervals in zip(systems, differences.intervals, strict=True):
        cells = _scores(system.result.scores, scores, "-")
        for i, score in enumerate(scores):
            if score.name in intervals:
                ends = (intervals[score.name].low, intervals[score.name].high)
                cells[i] += "\n" + "–".join(f"{score.scale * end:.1f}" for end in ends)
        rows.append(Row([system.name, *cells]))
    others = [(f"{system.name}, shuffled (blind)", system.result.blind) for system in systems]
    others.append(("people, one reference less", systems[0].result.human))
    for title, values in others:
        if values:
            rows.append(Row([title, *_scores(values, scores, "")], is_aside=True))
    title = (
        f"{systems[0].data}, {systems[0].result.num_images} images, scores x100 "
        "[95 % interval over images]"
    )
    return Table(title, columns, rows)


def _scores(values: Mapping[str, float], scores: Sequence[Score], absent: str) -> list[str]:
    return [
        f"{score.scale * values[score.name]:.1f}" if score.name in values else absent
        for score in scores
    ]


def _language_table(systems: Sequence[Evaluation]) -> Table:
    parts = [{**s.result.language, **_truths(s.result.truth)} for s in systems]
    columns = [Column("", is_text=True)]
    # The best system comes first, and is dropped last.
    columns += [Column(system.name, priority=-i) for i, system in enumerate(systems)]
    rows = [
        Row([name.replace("_", " "), *(_language_cell(name, part.get(name)) for part in parts)])
        for name in dict.fromkeys(key for part in parts for key in part)
    ]
    return Table("Language", columns, rows)


def _word_table(system: Evaluation) -> Table:
    columns = [
        Column("category", is_text=True),
        Column("recall"),
        Column("precision"),
        Column("most often missed", is_text=True),
        Column("most often wrong", is_text=True),
    ]
    rows = []
    for total in system.words:
        if total.word != "all" or not total.agreed + total.produced:
            continue
        words = [w for w in system.words if w.category == total.category and w.word != "all"]
        missed = sorted(((w.agreed - w.found, w.word) for w in words), reverse=True)[:4]
        wrong = sorted(((w.produced - w.supported, w.word) for w in words), reverse=True)[:4]
        cells = [total.category, _share(total.recall), _share(total.precision)]
        for counts in (missed, wrong):
            cells.append(", ".join(f"{word} {number}" for number, word in counts if number))
        rows.append(Row(cells))
    return Table(
        f"Words of {system.name}: recall of what people agree on, precision", columns, rows
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


def _truths(truth: Mapping[str, float]) -> dict[str, float]:
    return {
        f"true of the scene: {'whole caption' if name == 'all' else name}": value
        for name, value in truth.items()
    }


def _language_cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in _SHARES or name.startswith(("true", "recall", "mbleu", "self")):
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _number(image_id: str) -> str | int:
    """COCO's ids are numbers."""
    return int(image_id) if image_id.isdecimal() else image_id
