"""A run on disk: whatever is written there is whole or not there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import yaml
from filelock import FileLock, Timeout

from captionlab.errors import RunError
from captionlab.evaluation.result import Prediction, Result, write_predictions
from captionlab.files import write_atomically, write_json
from captionlab.run_files import RunFiles, State


def is_leader() -> bool:
    """Whether this process is the first of its run; only that one writes into the folder."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return int(next((rank for rank in ranks if rank is not None), "0")) == 0


class RunFolder(RunFiles):
    """The files of one run, and how they are written.

    Args:
        path: of the folder, created when something is written.
    """

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

    def claim(self, config: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """Write configuration and identity into a folder that is new or of the same identity.

        Args:
            config: the whole resolved configuration, for people.
            identity: what makes the run.

        Raises:
            RunError: if the folder belongs to another configuration.
        """
        manifest = self.read_json(self.manifest_path) or {}
        if manifest.get("identity", identity) != identity:
            keys = sorted(_differing(manifest["identity"], identity))
            raise RunError(
                f"{self.path} was made by another configuration (it differs in {', '.join(keys)}); "
                "choose another name=, or remove the folder."
            )
        write_atomically(self.config_path, yaml.safe_dump(dict(config), sort_keys=False))
        self.update_manifest(identity=identity)

    def update_manifest(self, **entries: Any) -> None:
        """Add entries to `manifest.json`."""
        manifest = {**(self.read_json(self.manifest_path) or {}), **entries}
        write_json(self.manifest_path, manifest, indent=2)

    def write_result(self, result: Result, predictions: Sequence[Prediction]) -> None:
        """Write `predictions.jsonl`, then `result.json`."""
        write_predictions(self.predictions_path, predictions)
        write_json(self.result_path, result.to_json(), indent=2)

    def read_result(self) -> Result | None:
        """What `result.json` says, None where the run is not complete.

        Raises:
            RunError: if the file is missing or damaged though the run is complete.
        """
        return Result.read(self.result_path) if self.state == "complete" else None


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= _differing(before, after, f"{prefix}{key}.")
        elif before != after:
            found.add(f"{prefix}{key}")
    return found
