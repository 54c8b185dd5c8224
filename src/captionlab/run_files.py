"""The files of a run folder, for whoever reads one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from captionlab.errors import ConfigError, RunError
from captionlab.files import digest
from captionlab.locks import Owner, is_fresh

# Counts changes of the code after which the same configuration gives another result, beyond what
# another seed would. A run made by an older version is another run, so that a mended fault is never
# loaded from disk.
RESULTS_VERSION = 3
State = Literal["queued", "running", "stopped", "failed", "complete"]
Condition = Literal["queued", "running", "stopped", "failed", "complete", "dead"]
# Reasons of stopped runs that wait for nobody: with test=false, and by `captionlab tune`.
TRAINED, PRUNED = "trained, not tested", "pruned"


class RunFiles:
    """Where a run's files are.

    `config.yaml manifest.json status.json metrics.csv checkpoints/ result.json predictions.jsonl
    samples.png`, `attention.jsonl` after `captionlab report --attention`, and
    `run.log output.log slurm.json` for whoever asks what happened

    Args:
        path: of the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.manifest_path = path / "manifest.json"
        self.status_path = path / "status.json"
        self.metrics_path = path / "metrics.csv"
        self.cluster_path = path / "slurm.json"
        self.log_path = path / "run.log"
        self.output_path = path / "output.log"  # what the run printed, where no terminal was
        self.result_path = path / "result.json"
        self.predictions_path = path / "predictions.jsonl"
        self.attention_path = path / "attention.jsonl"
        self.samples_path = path / "samples.png"
        self.checkpoints = path / "checkpoints"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.previous_checkpoint = self.checkpoints / "previous.ckpt"

    @property
    def state(self) -> State | None:
        """What `status.json` says; None where there is none.

        Raises:
            RunError: if the file is damaged.
        """
        status = self.read_status()
        return None if status is None else status["state"]

    @property
    def condition(self) -> Condition | None:
        """The state; `dead` where the process that queued or ran it is gone.

        Raises:
            RunError: if the file is damaged.
        """
        status = self.read_status()
        if status is None or status["state"] not in ("queued", "running"):
            return None if status is None else status["state"]
        if status["state"] == "queued" and self.read_cluster_job() is not None:
            return "queued"  # nobody's process; the cluster knows
        owner = Owner.from_json(status)
        alive = owner.is_alive() if owner is not None else None
        if alive is None:
            alive = is_fresh(self.status_path)
        return status["state"] if alive else "dead"

    def read_status(self) -> dict[str, Any] | None:
        """State, reason, command, and by whom they were written; None where there is no status.

        Raises:
            RunError: if the file is damaged.
        """
        status = self.read_json(self.status_path)
        if status is None:
            return None
        if status.get("state") not in get_args(State):
            raise RunError(_damaged(self.status_path, "no state"))
        # Folders of earlier versions call it error.
        return {"reason": status.get("error"), "command": None, **status}

    def read_cluster_job(self) -> dict[str, Any] | None:
        """The number of the SLURM job that was submitted for the run; None if none was.

        Raises:
            RunError: if the file is damaged.
        """
        return self.read_json(self.cluster_path)

    @property
    def reason(self) -> str:
        """Why there is no result, in one line; empty for a complete run.

        Raises:
            RunError: if the status is damaged.
        """
        condition, status = self.condition, self.read_status()
        resume = "run the same command again to resume"
        if condition == "complete":
            return ""
        if condition == "dead":
            return f"its process was killed, or its machine died; {resume}"
        if status is not None and status["reason"]:
            line = str(status["reason"]).splitlines()[0]
            if line.startswith((TRAINED, PRUNED)):
                resume = "`captionlab runs retry` resumes it"
            return f"{line}; {resume}" if condition == "stopped" else line
        return f"not finished ({condition or 'never started'})"

    @property
    def manifest(self) -> dict[str, Any]:
        """What is in `manifest.json`; nothing where there is none.

        Raises:
            RunError: if it is damaged.
        """
        return self.read_json(self.manifest_path) or {}

    @property
    def cached_message(self) -> str:
        """The log text for a finished run that is not repeated, and where it was computed."""
        machine = self.manifest.get("machine", {})
        where = " (computed in {precision} on {hardware})" if "precision" in machine else ""
        return "loaded from disk" + where.format(**machine)

    def check_unchanged(self) -> None:
        """Compare captions and result with their digests in the manifest; older runs have none.

        Raises:
            RunError: naming the file that is not as the run wrote it.
        """
        manifest = self.manifest
        for path in (self.predictions_path, self.result_path):
            written = manifest.get(f"{path.stem}_digest")
            if written is not None and not (path.exists() and digest(path) == written):
                raise RunError(
                    f"{path} was changed after the run wrote it; remove the run (`captionlab runs "
                    "remove RUN`) and run its command again, or score its model (`captionlab "
                    "evaluate RUN/checkpoints/best.ckpt`)."
                )

    @staticmethod
    def read_json(path: Path) -> dict[str, Any] | None:
        """The object in a JSON file, None where there is no file.

        Raises:
            RunError: if the file is damaged.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(_damaged(path, str(error))) from error
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror}).") from error
        if not isinstance(value, dict):
            raise RunError(_damaged(path, "no JSON object"))
        return value


def _damaged(path: Path, how: str) -> str:
    return f"{path} is damaged ({how}); remove it, and run the run's command again to resume."


def results_version(manifest: Mapping[str, Any]) -> int:
    """`RESULTS_VERSION` of the code that made a run; 0 of code that had none."""
    identity = manifest.get("identity")
    if not isinstance(identity, Mapping):  # the run ended before it had a manifest
        return RESULTS_VERSION
    return int(identity.get("results_version", 0))


def other_version(version: int) -> str:
    """What to know of a run of this results version; empty if this code would make it, too."""
    if version == RESULTS_VERSION:
        return ""
    age = "older" if version < RESULTS_VERSION else "newer"
    return (
        f"made by {age} code (results version {version}, this is {RESULTS_VERSION}): not "
        "comparable; the run's command makes a new one"
    )


def find_all(folders: Sequence[Path]) -> list[Path]:
    """The run folders among and in these folders, each once.

    Raises:
        ConfigError: if there are none in one of them.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        runs = find_runs(folder)
        if not runs:
            raise ConfigError(
                f"there are no runs in {folder}; name run folders, or folders of them."
            )
        for run in runs:
            found.setdefault(run.resolve(), run if run.name else run.resolve())
    return list(found.values())


def find_runs(folder: Path) -> list[Path]:
    """A run folder itself, or the run folders in a folder."""
    if RunFiles(folder).status_path.exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{RunFiles(folder).status_path.name}"))
