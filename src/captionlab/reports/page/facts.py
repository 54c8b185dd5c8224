"""What the page says of runs, as JSON values."""

from __future__ import annotations

import csv
import inspect
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionlab.metrics import registry
from captionlab.options import as_written
from captionlab.reports.groups import Group, labels_of, number_varied
from captionlab.run_files import RunFiles

if TYPE_CHECKING:
    from captionlab.reports.comparison import Comparison

_DIGITS = 6  # significant, of numbers in the page


def run_facts(comparison: Comparison) -> dict[str, Any]:
    """Where the runs come from, whatever their data: commands, versions, failures, definitions."""
    manifests = {run.folder: run.manifest for run in comparison.runs}
    versions = Counter(
        ", ".join(f"{name} {version}" for name, version in m["versions"].items())
        + (f", commit {m['commit'][:10]}" if m.get("commit") else "")
        for m in manifests.values()
        if m.get("versions")
    )
    machines = Counter(
        ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in m["machine"].items())
        for m in manifests.values()
        if m.get("machine")
    )
    complete = [run for run in comparison.runs if run.result is not None]
    return {
        "names": sorted({str(run.config.get("name", run.folder.parent.name)) for run in complete}),
        "runs": [
            {
                "folder": run.folder.name,
                "seed": str(run.seed),
                "command": shlex.join(manifests[run.folder].get("command", [])),
                "error": run.error,
            }
            for run in comparison.runs
        ],
        "versions": versions.most_common(),
        "machines": machines.most_common(),
        "notes": comparison.notes,
        "definitions": _definitions(),
    }


def facts_of(comparison: Comparison) -> dict[str, Any]:
    """Groups of runs on the same data, and how they differ."""
    groups, numbers = comparison.groups, comparison.numbers
    ranking = next((n.name for n in numbers if registry.is_ranking(n.name)), numbers[0].name)
    different, equal = _settings(groups)
    config = groups[0].runs[0].config
    varied = number_varied(groups)
    on_axis = None if varied is None else comparison.settings[varied]
    return {
        "name": str(config.get("data", {}).get("name", "")),
        "num_images": groups[0].results[0].num_images,
        "settings": comparison.settings,
        "varied": varied,
        "ranking": ranking,
        "numbers": [
            {
                "name": number.name,
                "title": number.title,
                "kind": number.kind,
                "scale": number.scale,
                "decimals": number.decimals,
                "best": number.best,
            }
            for number in numbers
        ],
        "groups": [
            {
                "name": group.name,
                "curve": group.name_without(on_axis),
                "labels": group.labels,
                "seeds": group.num_seeds,
                "runs": [{"folder": r.folder.name, "seed": str(r.seed)} for r in group.runs],
                "values": {n.name: [_short(v) for v in n.values(group)] for n in numbers},
                "interval": _interval(comparison, i, ranking),
                "config": labels_of(group.runs[0].settings, different),
            }
            for i, group in enumerate(groups)
        ],
        "different": different,
        "equal": equal,
        "people": {name: _short(value) for name, value in comparison.people.items()},
        "tests": _tests(comparison, ranking),
        "curves": _curves(groups),
    }


def _interval(comparison: Comparison, group: int, score: str) -> list[float] | None:
    if comparison.differences is None:
        return None
    interval = comparison.differences.intervals[group].get(score)
    return None if interval is None else [_short(interval.low), _short(interval.high)]


def _tests(comparison: Comparison, score: str) -> list[list[float | None]]:
    """Per pair: places, difference, its interval, p over images and over seeds."""
    if comparison.differences is None:
        return []
    rows: list[list[float | None]] = []
    for test in comparison.differences.tests:
        if test.score == score:
            over_images = test.p_randomisation
            p_images = test.p_bootstrap if over_images is None else over_images
            numbers = (test.difference, test.low, test.high, p_images)
            p_seeds = None if test.p_seeds is None else _short(test.p_seeds)
            rows.append([*test.systems, *map(_short, numbers), p_seeds])
    return rows


def _settings(groups: Sequence[Group]) -> tuple[list[str], dict[str, str]]:
    """The settings that differ between groups, given ones first, and the values of the others."""
    configs = [group.runs[0].settings for group in groups]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: {as_written(config.get(key, "-")) for config in configs} for key in keys}
    equal = {key: texts.pop() for key, texts in values.items() if len(texts) == 1}
    given = {key for group in groups for run in group.runs for key in run.given}
    different = [key for key in keys if key not in equal]
    return sorted(different, key=lambda key: key not in given), equal


def _curves(groups: Sequence[Group]) -> dict[str, Any]:
    """What each run logged per epoch, in training and validation."""
    runs, columns = [], dict[str, None]()
    for place, group in enumerate(groups):
        for run in group.runs:
            lines: dict[str, list[list[float]]] = {}
            for row in _rows(RunFiles(run.folder).metrics_path):
                for name, value in row.items():
                    if name and name.startswith(("val/", "train/")) and value:
                        try:
                            point = [int(row["epoch"]) + 1, _short(float(value))]
                        except (KeyError, ValueError):  # a damaged line
                            continue
                        lines.setdefault(name, []).append(point)
            columns |= dict.fromkeys(lines)
            runs.append({"group": place, "seed": str(run.seed), "lines": lines})
    monitors = [str(group.runs[0].config.get("monitor")) for group in groups]
    return {"columns": sorted(columns, key=lambda c: (c not in monitors, c)), "runs": runs}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _definitions() -> list[tuple[str, str]]:
    """Titles of scores, and their metric's description with its source."""
    return [
        (
            ", ".join(score.title for score in metric.scores),
            " ".join((inspect.getdoc(metric) or "").replace("`", "").split()),
        )
        for metric in registry.metrics()
    ]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
