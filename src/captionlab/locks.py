"""Who writes somewhere, and whether that process is alive: on this machine and on others.

Nothing here needs `flock`, which shared file systems may lack. On one machine the process table
says whether an owner is alive; from another machine its heartbeat does, a file that a thread
touches every few seconds.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

BEAT_SECONDS = 5.0
STALE_SECONDS = 45.0  # without a beat: the owner is dead
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: its machine, with the name of the process table where it has one of its own.
        pid: its number there.
        started: when it started, in the machine's own unit; 0 where that is unknown.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return cls(_host(), os.getpid(), _start_of(os.getpid()))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Owner | None:
        """Read what `asdict` wrote; None where it is incomplete."""
        try:
            return cls(str(value["host"]), int(value["pid"]), int(value["started"]))
        except (KeyError, TypeError, ValueError):
            return None

    def is_alive(self) -> bool | None:
        """Whether the process runs; None on another machine."""
        if self.host != _host():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            pass
        return _start_of(self.pid) == self.started


def is_fresh(path: Path) -> bool:
    """Whether a file was touched lately, by this machine's clock."""
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False


@contextmanager
def beating(*paths: Path) -> Iterator[None]:
    """Touch files every few seconds; those that are gone are left out."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            for path in paths:
                with suppress(OSError):
                    os.utime(path)

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class OwnedLock:
    """A lock that dies with its owner.

    Args:
        path: of the lock file, which names the owner; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._breaking = path.with_name(f"{path.name}.break")

    @contextmanager
    def hold(self, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
        """Wait until the lock is free, and hold it.

        Args:
            on_wait: called once if another process holds it; it may raise, in order not to wait.

        Raises:
            OSError: if the file cannot be written.
        """
        if not self._create(self.path):
            self._wait(on_wait)
        try:
            with beating(self.path):
                yield
        finally:
            if _owner_of(self.path) == Owner.current():
                self.path.unlink(missing_ok=True)

    def _wait(self, on_wait: Callable[[], object] | None) -> None:
        lock, breaking, is_first = _Watch(self.path), _Watch(self._breaking), True
        while not self._create(self.path):
            if lock.is_abandoned:
                self._break(lock, breaking)
                continue
            if is_first and on_wait is not None:
                on_wait()
            is_first = False
            time.sleep(_POLL_SECONDS)

    def _break(self, lock: _Watch, breaking: _Watch) -> None:
        """Remove a dead owner's file; `.break` makes sure that one process alone does."""
        if not self._create(self._breaking):
            if breaking.is_abandoned:  # that process died, too
                self._breaking.unlink(missing_ok=True)
            time.sleep(_POLL_SECONDS)
            return
        try:
            if lock.is_abandoned:
                self.path.unlink(missing_ok=True)
        finally:
            self._breaking.unlink(missing_ok=True)

    @staticmethod
    def _create(path: Path) -> bool:
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                json.dump(asdict(Owner.current()), stream)
        except OSError:  # a full disk: a lock without an owner would keep everybody waiting
            path.unlink(missing_ok=True)
            raise
        return True


class _Watch:
    """Notices that a file's owner is gone; the clocks of two machines are not compared."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: int | None = None
        self._since = time.monotonic()

    @property
    def is_abandoned(self) -> bool:
        """Whether the owner's process is gone, or its heartbeat where that cannot be told."""
        owner = _owner_of(self._path)
        alive = owner.is_alive() if owner is not None else None
        return self._is_still if alive is None else not alive

    @property
    def _is_still(self) -> bool:
        """Whether it was not touched for `STALE_SECONDS` while this was asked."""
        try:
            touched = self._path.stat().st_mtime_ns
        except OSError:
            touched = None
        if touched != self._seen:
            self._seen, self._since = touched, time.monotonic()
        return time.monotonic() - self._since > STALE_SECONDS


def _owner_of(path: Path) -> Owner | None:
    try:
        return Owner.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # just removed, or not yet filled
        return None


@cache
def _host() -> str:
    name = socket.gethostname()
    with suppress(OSError):
        table = os.readlink("/proc/self/ns/pid")  # Linux; a container has its own
        return name if table == "pid:[4026531836]" else f"{name} {table}"
    return name


def _start_of(pid: int) -> int:
    """From Linux's process table, so that a number that is used again is told apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])
