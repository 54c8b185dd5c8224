"""Runs as far as they can be read, and those that differ in nothing but their seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from captionlab.errors import RunError
from captionlab.evaluation.result import Result, read_predictions
from captionlab.metrics.resampling import CorpusStatistics
from captionlab.options import as_written
from captionlab.reports.differences import statistics_of
from captionlab.run_files import PRUNED, TRAINED, RunFiles, results_version

# libyaml, where PyYAML has it, is ten times as fast.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MOST_NAMED = 3  # runs without a result for the same reason
_IN_FOLDER_NAME = ("encoder", "decoder", "conditioning")


@dataclass(frozen=True)
class RunCaptions:
    """A run's captions of the test images, and what they got, as arrays.

    Attributes:
        image_ids: in the order of the file.
        texts: one caption per image.
        statistics: of the captions.
    """

    image_ids: tuple[str, ...]
    texts: list[str]
    statistics: CorpusStatistics


@dataclass(frozen=True)
class Run:
    """One run folder, as far as it can be read.

    Attributes:
        folder: of the run.
        config: resolved; empty if it cannot be read.
        result: None unless complete.
        error: why it has no result; None if it has one.
        manifest: what made it; empty if it cannot be read.
        state: as `RunFiles.condition`; `damaged` if it cannot be read.
    """

    folder: Path
    config: Mapping[str, Any]
    result: Result | None
    error: str | None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    state: str = "damaged"

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run folder; one that cannot be read has no result, and the reason."""
        files = RunFiles(folder)
        config: dict[str, Any] = {}
        manifest: dict[str, Any] = {}
        try:
            manifest = files.manifest
            state = files.condition or "not started"
            if state != "complete":
                if files.config_path.exists():  # none where it failed before
                    config = _read_config(files.config_path)
                return cls(folder, config, None, files.reason, manifest, state)
            config = _read_config(files.config_path)
            files.check_unchanged()
            result = Result.read(files.result_path)
            return cls(folder, config, result, None, manifest, state)
        except RunError as error:
            return cls(folder, config, None, str(error), manifest)

    @property
    def corpus(self) -> str | None:
        """Fingerprint of the data set; None if it is not known."""
        return self.manifest.get("corpus")

    @property
    def version(self) -> int:
        """`RESULTS_VERSION` of the code that made it."""
        return results_version(self.manifest)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What determines the result, by dotted keys, without the seed; and the run's `name`.

        A file named in the configuration counts by its content. `init_from` counts by the settings
        of that run without its seed.
        """
        own = {key: value for key, value in _flatten(self.config) if key != "seed"}
        identity = self.manifest.get("identity")
        if isinstance(identity, Mapping):
            content = _digest((identity.get("data") or {}).get("content"))
            made = {k: v for k, v in _flatten(identity) if not k.startswith("data.content.")}
            made = {key: _setting(own.get(key), value) for key, value in made.items()}
            own = {"name": own.get("name"), **made, "data.content": content}
            own.pop("seed", None)
        source = self.config.get("init_from")
        if source is not None:
            path = Path(source)  # of where it began, or of one that lies beside the run
            own["init_from"] = (
                _source(path) or _source(self.folder.parent / path.name) or own["init_from"]
            )
        return {**own, "results_version": self.version}

    @cached_property
    def given(self) -> set[str]:
        """The settings that the run's command line names."""
        return named_by(self.manifest.get("command", []))

    @cached_property
    def captions(self) -> RunCaptions:
        """Of the test images, read once.

        Raises:
            RunError: if the file is damaged, or another version of captionlab made it.
        """
        path = RunFiles(self.folder).predictions_path
        predictions = read_predictions(path)
        try:
            statistics = statistics_of(predictions)
        except (ValueError, LookupError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"{path} has not the same scores for every image ({reason}): it is damaged, or "
                "another version of captionlab made it."
            ) from error
        ids = tuple(prediction.image_id for prediction in predictions)
        return RunCaptions(ids, [prediction.caption for prediction in predictions], statistics)

    @property
    def data(self) -> str:
        """Name of the data set; empty if it cannot be read."""
        name, limit = str(self.settings.get("data.name", "")), self.settings.get("data.limit")
        return name if limit is None else f"{name}-limit-{limit}"  # as the corpus is called

    @property
    def seed(self) -> Any:
        """Empty if it cannot be read."""
        return self.config.get("seed", "")


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
        settings: by which groups differ, by dotted keys.
        labels: their values.
        runs: that have a result, at least one.
        failed: that have none.
    """

    settings: tuple[str, ...]
    labels: tuple[str, ...]
    runs: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """One per run."""
        return [run.result for run in self.runs if run.result is not None]

    @property
    def name(self) -> str:
        """As `name_without` none of the settings; the folder of the first run if there are none."""
        return self.name_without(None) or self.runs[0].folder.name

    def name_without(self, setting: str | None) -> str:
        """The labels of the other settings; before one that is no option of a group, its key."""
        last = [key.rpartition(".")[2] for key in self.settings]
        words = []
        for key, short, label in zip(self.settings, last, self.labels, strict=True):
            if key != setting:
                shown = short if last.count(short) == 1 else key
                words.append(label if short == "name" else f"{shown}={label}")
        return " ".join(words)

    @property
    def num_seeds(self) -> str:
        """How many runs have a result, and of how many where some have none."""
        num_runs = len(self.runs) + len(self.failed)
        return f"{len(self.runs)} of {num_runs}" if self.failed else str(num_runs)


def group_runs(runs: Sequence[Run]) -> tuple[list[str], list[Group], list[Run]]:
    """Group finished runs by the settings in which they differ.

    A run without a result belongs to the group of a finished run that has all its settings.

    Returns:
        The settings by dotted keys; the groups in the order of the runs; the runs without a
        result that belong to none of them.
    """
    finished = [run for run in runs if run.result is not None]
    given = {key for run in finished for key in run.given}
    settings = differing([run.settings for run in finished], given)
    groups: dict[tuple[str, ...], Group] = {}
    for run in finished:
        labels = labels_of(run.settings, settings)
        groups.setdefault(labels, Group(tuple(settings), labels)).runs.append(run)
    others = []
    for run in runs:
        if run.result is None:
            group = groups.get(labels_of(run.settings, settings))
            if group and any(run.settings == other.settings for other in group.runs):
                group.failed.append(run)
            else:
                others.append(run)
    return settings, list(groups.values()), others


def by_data_set(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs apart by the data set that they were scored on, under its name.

    A run without a result belongs to a finished one of its data settings, else to the first.
    """
    parts: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        if run.result is not None:
            parts.setdefault((run.data, run.corpus), []).append(run)
    if len(parts) < 2:
        return {next(iter(parts), ("", None))[0]: list(runs)}
    for run in runs:
        if run.result is None:
            own = [p for p in parts.values() if _data_settings(p[0]) == _data_settings(run)]
            (own or list(parts.values()))[0].append(run)
    names = [name for name, _ in parts]
    return {
        name if names.count(name) == 1 else f"{name}-{str(corpus)[:8]}": part
        for (name, corpus), part in parts.items()
    }


def _data_settings(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.settings.items() if key.startswith("data.")}


def without_result(runs: Sequence[Run]) -> list[str]:
    """Why runs have no result: a line for each, or one for more than three of the same reason."""
    failed = [run for run in runs if run.result is None]
    trials = [run for run in failed if str(run.error).startswith((TRAINED, PRUNED))]
    by_reason: dict[str | None, list[str]] = {}
    for run in failed:
        if run not in trials:  # of a search, which need none
            by_reason.setdefault(run.error, []).append(run.folder.name)
    lines = []
    for reason, names in by_reason.items():
        if len(names) > _MOST_NAMED:
            names = [f"{len(names)} runs, such as {names[0]}"]
        lines += [f"no result: {name}: {reason}" for name in names]
    if trials:
        lines.append(f"no result: {len(trials)} that were pruned, or trained and not tested")
    return lines


def number_varied(groups: Sequence[Group]) -> int | None:
    """The place among the labels of a setting that has three or more numbers, and only numbers.

    The one with most numbers, if there are several; None if there is none.
    """
    most, place = 2, None
    for i, labels in enumerate(zip(*(group.labels for group in groups), strict=True)):
        if all(map(_is_number, labels)) and len(set(labels)) > most:
            most, place = len(set(labels)), i
    return place


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def labels_of(values: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """Values as one writes them; `-` where there is none."""
    return tuple(as_written(values.get(key, "-")) for key in keys)


def differing(configs: Sequence[Mapping[str, Any]], given: Collection[str]) -> list[str]:
    """The settings by which configurations differ, less those that others imply.

    Args:
        configs: as `Run.settings`.
        given: keys that command lines name; others may follow from them.
    """
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [k for k in keys if len({repr(config.get(k)) for config in configs}) > 1]
    differing.sort(key=lambda key: key not in given)
    names = [key for key in differing if key.count(".") == 1 and key.endswith(".name")]
    # What a run is called by, where nothing differs.
    names = names or [key for key in ("encoder.name", "decoder.name") if key in keys]

    def num_distinct(chosen: Sequence[str]) -> int:
        return len({tuple(repr(config.get(key)) for key in chosen) for config in configs})

    chosen = list(names)
    for key in differing:
        if key not in names and num_distinct([*chosen, key]) > num_distinct(chosen):
            chosen.append(key)
    return chosen


def named_by(command: Sequence[str]) -> set[str]:
    """The dotted keys of a command's overrides; an option of a group as its name."""
    words = [word.lstrip("+~").partition("=")[0] for word in command]
    return {*words, *(f"{word}.name" for word in words)}


def _setting(given: Any, made: Any) -> Any:
    """A value; of a file the name, and the beginning of its content's digest."""
    if not isinstance(given, str) or not isinstance(made, str):
        return made
    name = Path(given).name
    return made if made in (given, name) else f"{name} ({made[:8]})"


def _source(path: Path) -> str | None:
    """A run to start from, as all of its seeds have it; None if `path` is no run's folder."""
    if not RunFiles(path).config_path.exists():
        return None
    run = Run.read(path)
    parts = [str(run.settings.get(f"{group}.name")) for group in _IN_FOLDER_NAME]
    return f"{'-'.join(parts)} ({_digest(run.settings)})"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} cannot be read ({reason}).") from error
    if not isinstance(config, dict):
        raise RunError(f"{path} is damaged: expected a mapping, found {config!r:.40}.")
    return config


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
