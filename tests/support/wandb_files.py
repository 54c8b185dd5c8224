"""Reads the files that wandb writes offline; wandb 0.31 ships no reader of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class Attempt:
    """What one process logged.

    Args:
        folder: `offline-run-...` in `wandb/` of a run folder.

    Attributes:
        run: the W&B run: id, group, tags and more.
        history: rows of curves.
        summary: by name.
        config: by name.
        exit_code: None if the process did not say.
        is_preempting: whether it said that it would go on later.
        artifacts: their types.
    """

    def __init__(self, folder: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        (path,) = folder.glob("*.wandb")
        self.files = folder / "files"
        self.run: Any = None
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.is_preempting = False
        self.artifacts: list[str] = []
        for content in _records(path.read_bytes()):
            record = Record.FromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= _values(record.run.config.update)
            elif kind == "config":
                self.config |= _values(record.config.update)
            elif kind == "history":
                self.history.append(_values(record.history.item))
            elif kind == "summary":
                self.summary |= _values(record.summary.update)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
            elif kind == "preempting":
                self.is_preempting = True
            elif kind == "artifact":
                self.artifacts.append(record.artifact.type)

    def column(self, name: str) -> list[Any]:
        """The values of one curve."""
        return [row[name] for row in self.history if name in row]


def attempts(run_folder: Path) -> list[Attempt]:
    """Of a run, in their order."""
    import wandb

    wandb.teardown()  # its service writes on after a run's end
    return [Attempt(path) for path in sorted((run_folder / "wandb").glob("offline-run-*"))]


def _values(items: Any) -> dict[str, Any]:
    return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


def _records(content: bytes) -> Iterator[bytes]:
    """LevelDB's log: blocks of chunks, each with checksum, length and kind; a torn end is left."""
    assert content.startswith(_HEADER), content[:7]
    position, parts = len(_HEADER), b""
    while position + 7 <= len(content):
        rest = _BLOCK - position % _BLOCK
        if rest < 7:
            position += rest
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        chunk = content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(chunk) < length:
            return
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            yield parts
