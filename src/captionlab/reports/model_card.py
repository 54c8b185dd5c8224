"""A model card: what was trained on what, what it is worth, what it costs, and its limits.

Whatever is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from captionlab.errors import printable
from captionlab.evaluation.result import Prediction, Result
from captionlab.reports.differences import Differences, statistics_of
from captionlab.reports.model_facts import Facts, data_text, model_rows, num_words, score_rows

_PURPOSE = "Writes a caption of a photo. Trained and scored by captionlab."


def is_model_card(path: Path) -> bool:
    """Whether a file is such a card."""
    return _PURPOSE.encode() in path.read_bytes()


def model_card(
    facts: Facts, result: Result | None, predictions: Sequence[Prediction], use: Sequence[str]
) -> str:
    """Markdown with the YAML header that model hubs read.

    Args:
        facts: of the run; see `captionlab.captioner.export.read_facts`.
        result: of its test; None if it is not known.
        predictions: of the test images, for intervals; empty if they are not known.
        use: commands that caption a photo.
    """
    header = yaml.safe_dump(_header(facts, result), sort_keys=False, allow_unicode=True)
    blocks = [f"---\n{header}---", f"# {_title(facts)}"]
    blocks.append(_PURPOSE)
    blocks.append("## Use\n\n" + "\n".join(f"    {line}" for line in use))
    blocks.append("## Model\n\n" + _table(("part", "what"), model_rows(facts).items()))
    blocks.append("## Training data\n\n" + "\n".join(f"- {line}" for line in _data(facts)))
    if result is not None:
        blocks.append(_scores(facts, result, predictions))
        blocks += _cost(result)
    limits = _limits(facts, result, predictions)
    blocks.append("## Limits\n\n" + "\n".join(f"- {line}" for line in limits))
    made = ["## How it was made"]
    if facts.get("command"):
        program, *arguments = facts["command"]
        made.append("    " + " ".join([Path(program).name, *arguments]))
    versions = facts.get("versions") or {}
    if versions:
        made.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    if len(made) > 1:
        blocks += made
    return printable("\n\n".join(blocks) + "\n")


def _names(facts: Facts) -> list[str]:
    """Encoder, decoder and conditioning, by the names that the run's command gave them."""
    parts = [facts["config"].get(group, {}) for group in ("encoder", "decoder", "conditioning")]
    return [str(part["name"]) for part in parts if part.get("name", "built_in") != "built_in"]


def _title(facts: Facts) -> str:
    name = facts["config"].get("data", {}).get("name", "unknown data")
    return f"{', '.join(_names(facts))} on {name}"


def _header(facts: Facts, result: Result | None) -> dict[str, Any]:
    data = str(facts["config"].get("data", {}).get("name", "unknown"))
    header: dict[str, Any] = {
        "library_name": "captionlab",
        "pipeline_tag": "image-to-text",
        "license": "unknown",
        "tags": ["image-captioning", "captionlab", *_names(facts)],
    }
    if result is None:
        return header
    rows = score_rows(result)
    header["metrics"] = [row.score.name for row in rows]
    entry = {
        "task": {"type": "image-to-text", "name": "Image captioning"},
        "dataset": {"type": data, "name": data, "split": "test"},
        "metrics": [
            {"type": row.score.name, "name": row.score.title, "value": round(row.value, 2)}
            for row in rows
        ],
    }
    header["model-index"] = [{"name": "-".join([*_names(facts), data]), "results": [entry]}]
    return header


def _data(facts: Facts) -> Iterator[str]:
    data = facts["config"].get("data", {})
    yield f"Data set: {data_text(facts)}."
    if data.get("max_caption_length"):
        yield f"Training captions are cut after {data['max_caption_length']} words."
    if "seed" in facts["config"]:
        yield f"Seed of the run: {facts['config']['seed']}."


def _scores(facts: Facts, result: Result, predictions: Sequence[Prediction]) -> str:
    intervals: dict[str, Any] = {}
    if predictions:
        intervals = Differences(["model"], [[statistics_of(predictions)]]).intervals[0]
    rows = []
    for score, value, blind, human in score_rows(result):
        ends = ""
        if score.name in intervals:
            one = intervals[score.name]
            ends = f"{score.scale * one.low:.1f} to {score.scale * one.high:.1f}"
        others = ["" if other is None else f"{other:.1f}" for other in (blind, human)]
        rows.append((score.title, f"{value:.1f}", ends, *others))
    columns = ("score x100", "value", "95 % interval", "blind", "people")
    kept = [i for i in range(len(columns)) if i < 2 or any(row[i] for row in rows)]
    table = _table([columns[i] for i in kept], ([row[i] for i in kept] for row in rows))
    name = facts["config"].get("data", {}).get("name", "unknown")
    notes = ["The interval is over images (bootstrap)."] if intervals else []
    if result.blind:
        notes.append("*Blind*: the same captions given to other images.")
    if result.human:
        notes.append("*People*: each image's first reference against its others.")
    text = f"## Scores\n\n{result.num_images} images of the test split of {name}.\n\n{table}"
    return "\n\n".join([text, " ".join(notes)] if notes else [text])


def _cost(result: Result) -> Iterator[str]:
    training = result.training
    if training is None:
        return
    rows = {f"parameters, {name}": f"{n:,.0f}" for name, n in training.parameters.items()}
    rows |= {f"seconds, {name}": f"{seconds:.0f}" for name, seconds in training.seconds.items()}
    rows["epochs trained (best)"] = f"{training.epochs} ({training.best_epoch})"
    rows["peak memory"] = f"{training.peak_memory_bytes / 1e9:.1f} GB"
    yield "## Size and cost\n\n" + _table(("what", "number"), rows.items())


def _limits(
    facts: Facts, result: Result | None, predictions: Sequence[Prediction]
) -> Iterator[str]:
    config = facts["config"]
    if "random-" in str(facts["features"]["encoder"]):
        yield "The encoder's weights are random, fitted to training images: a toy, not for use."
    yield f"It can write {num_words(facts)} words and no others."
    length = config.get("search", {}).get("max_length")
    if length:
        cut = [p for p in predictions if p.finished is False]
        known = any(p.finished is not None for p in predictions)
        measured = f"; {len(cut)} of {len(predictions)} test captions were cut there" * known
        yield f"Captions end after {length} words{measured}."
    if result is None:
        yield "No scores are known."
    else:
        distinct = result.language.get("distinct_captions")
        if distinct is not None:
            yield f"{100 * distinct:.0f} % of the test captions are distinct."
        yield "It was scored on one data set; photos of another kind were not tried."
        yield from result.warnings
        yield from (f"{name} is missing: {why}" for name, why in result.missing.items())


def _table(columns: Sequence[str], rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
