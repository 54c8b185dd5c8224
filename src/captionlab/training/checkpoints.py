"""Checkpoints on disk: whole, with a digest, the last one kept until the next is read back."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from captionlab.errors import StorageError
from captionlab.files import read_whole, seal

log = logging.getLogger(__name__)


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place, reads it back, then puts it there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save.

        Args:
            checkpoint: tensors and plain values.
            path: of the file, replaced as a whole.
            storage_options: `{"previous": path}` keeps the file that was there before.

        Raises:
            StorageError: if it cannot be written; the file is then as it was.
        """
        path = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        temporary = path.with_name(f".{path.name}.tmp")  # of whoever holds the run's lock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(temporary, seal(content.getvalue()))
            read_whole(temporary)
            if storage_options is not None and path.exists():
                path.replace(storage_options["previous"])
            temporary.replace(path)
        except (OSError, StorageError) as error:
            reason = getattr(error, "strerror", None) or "it reads back as something else"
            raise StorageError(
                f"{path} cannot be written ({reason}); what was saved before is kept. Make room, "
                "then run the same command again to resume."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load tensors and plain values; nothing in the file is executed.

        Raises:
            StorageError: if the file is damaged.
        """
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU.

    Raises:
        StorageError: if the file is damaged.
    """
    try:
        content = io.BytesIO(read_whole(path))
        checkpoint: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    except (OSError, StorageError):
        raise
    except Exception as error:  # torch raises many kinds for a file that is not its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(
            f"{path} is damaged ({reason}); remove it, and run the same command again."
        ) from error
    return checkpoint


def latest_checkpoint(*paths: Path) -> tuple[Path, dict[str, Any]] | None:
    """The first of some files that exists and is whole, and its checkpoint; None if none exists.

    Raises:
        StorageError: if there are files and all are damaged.
    """
    damage: StorageError | None = None
    for path in paths:
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except StorageError as error:
            damage = damage or error
            continue
        if damage is not None:
            log.warning("%s Using %s instead.", damage, path)
        return path, checkpoint
    if damage is not None:
        raise damage
    return None


def _write(path: Path, content: bytes) -> None:
    """Write to the disk itself, not only to what the system keeps of it in memory."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
