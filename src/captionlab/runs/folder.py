"""A run on disk: whatever is written there is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from captionlab.errors import RunError, StorageError
from captionlab.evaluation.result import Prediction, Result, write_predictions
from captionlab.files import digest, is_full, write_atomically, write_json
from captionlab.locks import OwnedLock, Owner, beating
from captionlab.run_files import RunFiles, State
from captionlab.runs.command import own_command
from captionlab.runs.stopping import Stopped


class RunFolder(RunFiles):
    """The files of one run, and how they are written.

    Args:
        path: of the folder, created when something is written.
    """

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the folder; the leader holds the lock for all its processes."""
        self.path.mkdir(parents=True, exist_ok=True)
        wait = f"{self.path} is being run by another process; waiting for it."
        with OwnedLock(self.path / ".owner").hold(lambda: print(wait, flush=True)):
            for folder in (self.path, self.checkpoints):  # of a process that was killed
                for unfinished in folder.glob(".*.tmp"):
                    unfinished.unlink(missing_ok=True)
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """State `running`, with a heartbeat; at the end complete, or stopped or failed and why."""
        self.set_state("running", command=own_command())
        try:
            with beating(self.status_path):
                yield
        except BaseException as error:
            with suppress(StorageError):  # on a full disk, which the error itself may be about
                if isinstance(error, Stopped):
                    self.set_state("stopped", error.reason, command=own_command())
                else:
                    reason = f"{type(error).__name__}: {error}"
                    self.set_state("failed", reason, command=own_command())
            raise
        self.set_state("complete", command=own_command())
        for path in (self.last_checkpoint, self.previous_checkpoint):
            path.unlink(missing_ok=True)  # the optimizer's state: nothing resumes from here

    def set_state(
        self,
        state: State,
        reason: str | None = None,
        *,
        command: Sequence[str] | None = None,
    ) -> None:
        """Write `status.json`.

        Args:
            state: of the run.
            reason: why, where it has no result.
            command: that runs it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        status = {
            "state": state,
            "reason": reason,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            **asdict(Owner.current()),
            "command": None if command is None else list(command),
            "working_directory": os.getcwd(),
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
        self.check_identity(identity)
        write_atomically(self.config_path, yaml.safe_dump(dict(config), sort_keys=False))
        self.update_manifest(identity=identity)

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Compare what makes a run with what made the one in the folder, if there is one.

        Raises:
            RunError: naming the options in which they differ.
        """
        manifest = self.manifest
        if manifest.get("identity", identity) != identity:
            keys = sorted(differing(manifest["identity"], identity))
            raise RunError(
                f"{self.path} was made by another configuration or version (it differs in "
                f"{', '.join(keys)}); choose another name=, or remove the folder."
            )

    def update_manifest(self, **entries: Any) -> None:
        """Add entries to `manifest.json`."""
        manifest = {**self.manifest, **entries}
        write_json(self.manifest_path, manifest, indent=2)

    def write_result(self, result: Result, predictions: Sequence[Prediction]) -> None:
        """Write `predictions.jsonl`, `result.json`, and the digests of both in the manifest."""
        write_predictions(self.predictions_path, predictions)
        write_json(self.result_path, result.to_json(), indent=2)
        written = (self.predictions_path, self.result_path)
        self.update_manifest(**{f"{path.stem}_digest": digest(path) for path in written})

    def read_result(self) -> Result | None:
        """What `result.json` says, None where the run is not complete.

        Raises:
            RunError: if the file is missing, damaged or changed though the run is complete.
        """
        if self.state != "complete":
            return None
        self.check_unchanged()
        return Result.read(self.result_path)


def differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of the values in which two nested mappings differ."""
    found = set()
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= differing(before, after, f"{prefix}{key}.")
        elif before != after:
            found.add(f"{prefix}{key}")
    return found


def concerns(error: OSError, folder: Path) -> bool:
    """Whether an error's file is a folder, in it, or above it; a full disk's has no file."""
    if not isinstance(error.filename, str | Path):
        return is_full(error)
    path, folder = Path(error.filename).absolute(), folder.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def unwritable(folder: Path, error: OSError, option: str = "runs_dir") -> str:
    """What to do about a folder that cannot be written."""
    return (
        f"{folder} cannot be written ({error.strerror}); set {option}= to a folder that can, or "
        "make room there, and run the same command again."
    )


def check_writable(folder: Path, option: str = "runs_dir") -> None:
    """Write into a folder, or into the nearest one above it that exists, and remove it again.

    Args:
        folder: of a run, of runs, or another; not created, since another process may be doing so.
        option: that names it.

    Raises:
        RunError: if that is not possible.
    """
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        probe = existing / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(unwritable(folder, error, option)) from error


def missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it that do not exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders as long as they are empty, in this order."""
    with suppress(OSError):  # it is not empty, or is gone
        for folder in folders:
            folder.rmdir()
