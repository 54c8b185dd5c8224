"""Run folders at a glance: state, progress, scores and cost, and how two of them differ."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captionlab.errors import RunError
from captionlab.metrics import registry
from captionlab.reports.groups import Run, differing, group_runs, labels_of, named_by
from captionlab.reports.table import Column, Row, Table
from captionlab.run_files import RunFiles, find_runs, other_version


@dataclass(frozen=True)
class Overview:
    """What a run folder says of its run.

    Attributes:
        folder: of the run.
        state: `damaged` where it cannot be read, `dead` where its process is gone, `queued` where
            SLURM will start it again.
        reason: why there is no result; empty if there is one.
        note: what to know of its result.
        epochs: trained so far.
        max_epochs: None where the configuration is not written yet.
        scores: by name; empty without a result.
        seconds: spent on `encode`, `train` and `test`; empty without a result.
        settings: by dotted keys; empty where the configuration is not written yet.
        updated: when the state was written.
        host: where the run is, or was.
        pid: of its process.
        job: of SLURM; None if it was not submitted.
        command: that runs it; None where it is not known.
        logs: files in which it said something.
    """

    folder: str
    state: str
    reason: str
    note: str
    epochs: int
    max_epochs: int | None
    scores: dict[str, float]
    seconds: dict[str, float]
    settings: dict[str, Any]
    updated: str | None
    host: str | None
    pid: int | None
    job: str | None
    command: list[str] | None
    logs: list[str]

    @classmethod
    def read(cls, folder: Path, queued: Collection[str] | None = None) -> Overview:
        """Read a run folder.

        Args:
            folder: of the run.
            queued: SLURM's jobs that wait or run; None where that is not known.
        """
        files, run = RunFiles(folder), Run.read(folder)
        status: dict[str, Any] = {}
        job: str | None = None
        try:
            status = files.read_status() or {}
            job = (files.read_cluster_job() or {}).get("job")
            state: str = files.condition or "not started"
        except RunError:
            state = "damaged"
        if state == "complete" and run.result is None:
            state = "damaged"
        reason = run.error or ""
        if job is not None and queued is not None:
            if state == "queued" and job not in queued:
                state = "dead"
            elif state in ("stopped", "dead") and job in queued:
                state, reason = "queued", "requeued by SLURM"
        trainer = run.config.get("trainer")
        return cls(
            folder=str(folder),
            state=state,
            reason=reason,
            note=other_version(run.version),
            epochs=num_epochs(files.metrics_path),
            max_epochs=trainer.get("max_epochs") if isinstance(trainer, dict) else None,
            scores={} if run.result is None else run.result.scores,
            seconds=run.result.training.seconds if run.result and run.result.training else {},
            settings=run.settings if run.config else {},
            updated=status.get("updated"),
            host=status.get("host"),
            pid=status.get("pid"),
            job=job,
            command=status.get("command"),
            logs=[str(path) for path in log_files(folder)],
        )

    @property
    def progress(self) -> str:
        """Epochs, of how many at most."""
        return f"{self.epochs}/{'?' if self.max_epochs is None else self.max_epochs}"

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def result_rows(folder: str | Path) -> list[dict[str, Any]]:
    """Results of runs as a table: `pandas.DataFrame(captionlab.runs("runs/shapes"))`.

    Args:
        folder: a run's, or one of runs.

    Returns:
        A row per run, all with the same columns, None where a run has no value: `folder`, `state`,
        `reason` (why there is no result), the settings by which finished runs differ by dotted
        keys, `seed`, `epochs`, `best_epoch`, `best_validation`, scores by name as fractions,
        `seconds_encode`, `seconds_train`, `seconds_test`, `parameters_encoder`,
        `parameters_encoder_trained`, `parameters_decoder` and `peak_memory_bytes`.

    Raises:
        RunError: if there are no runs.
    """
    folders = find_runs(Path(folder))
    if not folders:
        raise RunError(f"there are no runs in {folder}; name a run's folder, or a folder of them.")
    runs = [Run.read(path) for path in folders]
    settings, *_ = group_runs(runs)
    rows = []
    for run in runs:
        overview = Overview.read(run.folder)
        row = {name: getattr(overview, name) for name in ("folder", "state", "reason")}
        row |= {key: _plain(run.settings.get(key)) for key in settings}
        row |= {"seed": run.config.get("seed"), "epochs": overview.epochs}
        training = run.result.training if run.result is not None else None
        if training is not None:
            row["best_epoch"] = training.best_epoch
            row["best_validation"] = next(iter(training.best_validation.values()), None)
        row |= overview.scores
        if training is not None:
            row |= {f"seconds_{name}": value for name, value in training.seconds.items()}
            row |= {f"parameters_{name}": value for name, value in training.parameters.items()}
            row["peak_memory_bytes"] = training.peak_memory_bytes
        rows.append(row)
    columns = dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def _plain(value: Any) -> Any:
    """Lists as text, so that a column has one type."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def num_epochs(metrics: Path) -> int:
    """How many epochs have rows of validation scores; 0 if the file cannot be read."""
    try:
        rows = list(csv.DictReader(metrics.read_text(encoding="utf-8").splitlines()))
        validated = [row for row in rows if any(row[k] for k in row if k.startswith("val/"))]
        return max((int(row["epoch"]) + 1 for row in validated), default=0)
    except (OSError, ValueError, csv.Error):
        return 0


def log_files(folder: Path) -> list[Path]:
    """What the run, its process and the cluster printed, where there is any."""
    files = RunFiles(folder)
    paths = [files.log_path, files.output_path, folder / "slurm.log"]
    return [path for path in paths if path.exists()]


def overview_table(overviews: Sequence[Overview]) -> Table:
    """One row per run."""
    names = [name for overview in overviews for name in overview.scores]
    scores = registry.most_important(names, 2)
    begun = [overview.settings for overview in overviews if overview.settings]
    given = {key for overview in overviews for key in named_by(overview.command or [])}
    settings = [k for k in differing(begun, given) if not k.endswith(".name")]  # the run's name has
    columns = [Column("run", is_text=True), Column("state", is_text=True)]
    columns += [Column(key, is_text=True, priority=3) for key in settings]
    columns.append(Column("epochs"))
    columns += [Column(score.title) for score in scores]
    columns += [Column("train s", priority=2), Column("why", is_text=True, priority=1)]
    rows = []
    for overview in overviews:
        values = [overview.scores.get(score.name) for score in scores]
        shown = [
            "" if value is None else f"{score.scale * value:.1f}"
            for score, value in zip(scores, values, strict=True)
        ]
        seconds = overview.seconds.get("train")
        why = "; ".join(text for text in (overview.reason, overview.note) if text)
        known = overview.settings  # empty before the run has begun
        own = labels_of(known, settings) if known else [""] * len(settings)
        cells = [Path(overview.folder).name, overview.state, *own, overview.progress, *shown]
        rows.append(Row([*cells, "" if seconds is None else f"{seconds:.0f}", why]))
    return Table("Runs", columns, rows)


def differences(first: Path, second: Path) -> dict[str, tuple[Any, Any]]:
    """Settings, scores and costs in which two runs differ, by name; None where one has none."""
    return _differing(_values(first), _values(second))


def differences_table(first: Path, second: Path) -> Table:
    """One row per difference; `-` where a run has none."""
    both = [_values(first), _values(second)]
    names = list(_differing(*both))
    shown = []
    for values in both:
        short = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
        shown.append(labels_of(short, names))
    columns = [Column("", is_text=True), Column(first.name, True), Column(second.name, True)]
    return Table("What differs", columns, [Row(cells) for cells in zip(names, *shown, strict=True)])


def _differing(own: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (own.get(name), others.get(name)) for name in {**own, **others}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _values(folder: Path) -> dict[str, Any]:
    """Settings, scores and costs of a run by name."""
    run = Run.read(folder)
    values: dict[str, Any] = {**run.settings, "seed": run.seed}
    if run.result is not None:
        values |= run.result.scores
        if run.result.training is not None:
            seconds = run.result.training.seconds
            values |= {f"seconds {name}": value for name, value in seconds.items()}
    return values
