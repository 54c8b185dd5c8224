"""A run on disk: whatever is written there is whole or not there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout

from captionlab.errors import RunError
from captionlab.files import write_atomically, write_json

State = Literal["queued", "running", "complete", "failed"]


def is_leader() -> bool:
    """Whether this process is the first of its run; only that one writes into the folder."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return int(next((rank for rank in ranks if rank is not None), "0")) == 0


class RunFolder:
    """The files of one run.

    `config.yaml manifest.json status.json metrics.csv checkpoints/ result.json predictions.jsonl`

    Args:
        path: of the folder, made when something is written.
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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the folder; the leader holds the lock for all its processes."""
        if not is_leader():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{self.path} is being run by another process; waiting for it.", flush=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @property
    def state(self) -> State | None:
        """What `status.json` says; None where there is none."""
        status = self.read_json(self.status_path)
        return status["state"] if status else None

    def set_state(self, state: State, error: str | None = None) -> None:
        """Write `status.json`."""
        self.path.mkdir(parents=True, exist_ok=True)
        status = {
            "state": state,
            "error": error,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_json(self.status_path, status, indent=2)

    def claim(self, config: dict[str, Any], identity: dict[str, Any]) -> None:
        """Write the configuration, or find that the folder was made by the same.

        Args:
            config: the whole resolved configuration, for people.
            identity: what makes the run.

        Raises:
            RunError: if the folder belongs to another configuration.
        """
        manifest = self.read_json(self.manifest_path) or {}
        # Through JSON and back: a tuple is a list on disk.
        identity = json.loads(json.dumps(identity))
        if manifest.get("identity", identity) != identity:
            keys = sorted(_differing(manifest["identity"], identity))
            raise RunError(
                f"{self.path} was made by another configuration (it differs in {', '.join(keys)}); "
                "choose another name=, or remove the folder."
            )
        write_atomically(self.config_path, yaml.safe_dump(config, sort_keys=False))
        self.update_manifest(identity=identity)

    def update_manifest(self, **entries: Any) -> None:
        """Add to `manifest.json`, which says what the run was made of."""
        manifest = {**(self.read_json(self.manifest_path) or {}), **entries}
        write_json(self.manifest_path, manifest, indent=2)

    def write_result(self, result: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
        """Write `predictions.jsonl`, then `result.json`."""
        lines = [json.dumps(prediction, ensure_ascii=False) for prediction in predictions]
        write_atomically(self.predictions_path, "\n".join(lines) + "\n")
        write_json(self.result_path, result, indent=2)

    def read_result(self) -> dict[str, Any] | None:
        """What `result.json` says, None where there is none."""
        return self.read_json(self.result_path)

    @staticmethod
    def read_json(path: Path) -> dict[str, Any] | None:
        """The object in a JSON file, None where there is no file.

        Raises:
            RunError: if the file is damaged.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is damaged ({error}); remove {path.parent}.") from error
        assert isinstance(found, dict)
        return found


def _differing(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= _differing(before, after, f"{prefix}{key}.")
        elif before != after:
            found.add(f"{prefix}{key}")
    return found
