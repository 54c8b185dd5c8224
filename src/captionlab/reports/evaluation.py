"""What an evaluation found: a table for the terminal, and files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from captionlab.files import write_atomically
from captionlab.metrics.words import WordCount
from captionlab.reports.differences import Differences, statistics_of

_SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "spice": "SPICE",
}
_SHARES = ("distinct_captions", "most_common", "novel_captions", "distinct_1", "distinct_2")


@dataclass
class EvaluatedCaptions:
    """One system's captions, as far as a report shows them.

    Attributes:
        name: of the system.
        data: of the data set and split.
        summary: scores, blind, human, language, truth, missing, warnings, num_images.
        rows: one entry per image: image_id, caption, scores, statistics.
        words: counts by category.
    """

    name: str
    data: str
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    words: Sequence[WordCount]

    def write(self, folder: Path) -> list[Path]:
        """Write the files of one system; gives their paths.

        `scores.json` has every number, `per_image.csv` captions and scores by image, `words.csv`
        the words by category, and `captions_results.json` is what evaluation servers take.
        """
        folder.mkdir(parents=True, exist_ok=True)
        summary = {"name": self.name, "data": self.data, **self.summary}
        results = [
            {"image_id": _number(row["image_id"]), "caption": row["caption"]} for row in self.rows
        ]
        names = list(self.rows[0]["scores"])
        images = [
            [row["image_id"], row["caption"], *map(row["scores"].get, names)] for row in self.rows
        ]
        counts = [
            [w.category, w.word, w.agreed, w.found, w.recall, w.produced, w.supported, w.precision]
            for w in self.words
        ]
        titles = ["category", "word", "agreed", "found", "recall"]
        titles += ["produced", "supported", "precision"]
        files = {
            "scores.json": json.dumps(summary, indent=2) + "\n",
            "per_image.csv": _csv([["image_id", "caption", *names], *images]),
            "words.csv": _csv([titles, *counts]),
            "captions_results.json": json.dumps(results, ensure_ascii=False) + "\n",
        }
        for name, text in files.items():
            write_atomically(folder / name, text)
        return [folder / name for name in files]


def print_evaluations(systems: Sequence[EvaluatedCaptions], console: Console) -> Differences:
    """Print scores, language and words of systems that were scored on the same images.

    Returns:
        Their intervals and the differences between them, the best first.
    """
    ranked = sorted(systems, key=lambda each: -_rank(each))
    differences = Differences([s.name for s in ranked], [[statistics_of(s.rows)] for s in ranked])
    console.print(_score_table(ranked, differences))
    console.print(_language_table(ranked))
    console.print(_word_table(ranked[0]))
    for each in ranked:
        for name, reason in each.summary["missing"].items():
            console.print(f"{each.name}: {name} is missing: {reason}", style="red", markup=False)
        for told in each.summary["warnings"]:
            console.print(f"{each.name}: {told}", style="red", markup=False)
    differences.print_table(console)
    return differences


def _score_table(systems: Sequence[EvaluatedCaptions], differences: Differences) -> Table:
    names = list(dict.fromkeys(name for each in systems for name in each.summary["scores"]))
    names.sort(key=_place)
    number = systems[0].summary["num_images"]
    table = Table(
        title=f"{systems[0].data}, {number} images, scores x100 [95 % interval over images]",
        title_justify="left",
    )
    table.add_column("system", no_wrap=True)
    for name in names:
        base = name.removesuffix("_pyptb")
        suffix = " (Python's tokens)" if base != name else ""
        table.add_column(_SCORES.get(base, base) + suffix, justify="right")
    for each, ends in zip(systems, differences.intervals, strict=True):
        cells = []
        for name in names:
            value = each.summary["scores"].get(name)
            shown = "-" if value is None else f"{100 * value:.1f}"
            if name in ends:
                shown += f"\n{100 * ends[name].low:.1f}–{100 * ends[name].high:.1f}"
            cells.append(shown)
        table.add_row(each.name, *cells)
    others = [(f"{each.name}, shuffled (blind)", each.summary["blind"]) for each in systems]
    others.append(("people, one reference less", systems[0].summary["human"]))
    for title, values in others:
        if values:
            cells = [f"{100 * values[name]:.1f}" if name in values else "" for name in names]
            table.add_row(title, *cells, style="dim")
    return table


def _language_table(systems: Sequence[EvaluatedCaptions]) -> Table:
    table = Table(title="Language", title_justify="left")
    table.add_column("")
    for each in systems:
        table.add_column(each.name, justify="right")
    parts = [{**s.summary["language"], **_truths(s.summary["truth"])} for s in systems]
    for name in dict.fromkeys(key for part in parts for key in part):
        cells = [_cell(name, part.get(name)) for part in parts]
        table.add_row(name.replace("_", " "), *cells)
    return table


def _word_table(system: EvaluatedCaptions) -> Table:
    table = Table(
        title=f"Words of {system.name}: recall of what people agree on, precision",
        title_justify="left",
    )
    for title in ("category", "recall", "precision", "most often missed", "most often wrong"):
        table.add_column(title, justify="right" if title in ("recall", "precision") else "left")
    for total in system.words:
        if total.word != "all" or not total.agreed + total.produced:
            continue
        words = [w for w in system.words if w.category == total.category and w.word != "all"]
        missed = sorted(((w.agreed - w.found, w.word) for w in words), reverse=True)[:4]
        wrong = sorted(((w.produced - w.supported, w.word) for w in words), reverse=True)[:4]
        table.add_row(
            total.category,
            _share(total.recall),
            _share(total.precision),
            ", ".join(f"{word} {number}" for number, word in missed if number),
            ", ".join(f"{word} {number}" for number, word in wrong if number),
        )
    return table


def _truths(truth: Mapping[str, float]) -> dict[str, float]:
    return {
        f"true of the scene: {'whole caption' if name == 'all' else name}": value
        for name, value in truth.items()
    }


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in _SHARES or name.startswith(("true", "recall", "mbleu", "self")):
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _rank(system: EvaluatedCaptions) -> float:
    scores = system.summary["scores"]
    return float(scores.get("cider_d", scores.get("cider_d_pyptb", 0.0)))


def _place(name: str) -> int:
    order = list(_SCORES)
    base = name.removesuffix("_pyptb")
    return order.index(base) if base in order else len(order)


def _number(image_id: str) -> str | int:
    """COCO's ids are numbers."""
    return int(image_id) if image_id.isdecimal() else image_id


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
