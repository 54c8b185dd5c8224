"""The files of a run folder, for whoever reads one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from captionlab.errors import RunError

State = Literal["queued", "running", "complete", "failed"]


class RunFiles:
    """Where a run's files are.

    `config.yaml manifest.json status.json metrics.csv checkpoints/ result.json predictions.jsonl`

    Args:
        path: of the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.manifest_path = path / "manifest.json"
        self.status_path = path / "status.json"
        self.metrics_path = path / "metrics.csv"
        self.result_path = path / "result.json"
        self.predictions_path = path / "predictions.jsonl"
        self.checkpoints = path / "checkpoints"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.last_checkpoint = self.checkpoints / "last.ckpt"

    @property
    def state(self) -> State | None:
        """What `status.json` says; None where there is none.

        Raises:
            RunError: if the file is damaged.
        """
        status = self.read_status()
        return None if status is None else status["state"]

    def read_status(self) -> dict[str, Any] | None:
        """`state`, `error` and when and where they were written; None where there is no status.

        Raises:
            RunError: if the file is damaged.
        """
        status = self.read_json(self.status_path)
        if status is not None and not {"state", "error"} <= status.keys():
            raise RunError(f"{self.status_path} is damaged (no state); remove {self.path}.")
        return status

    @staticmethod
    def read_json(path: Path) -> dict[str, Any] | None:
        """The object in a JSON file, None where there is no file.

        Raises:
            RunError: if the file is damaged.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is damaged ({error}); remove {path.parent}.") from error
        if not isinstance(value, dict):
            raise RunError(f"{path} is damaged (no JSON object); remove {path.parent}.")
        return value


def find_runs(folder: Path) -> list[Path]:
    """A run folder itself, or the run folders in a folder."""
    if RunFiles(folder).status_path.exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{RunFiles(folder).status_path.name}"))
