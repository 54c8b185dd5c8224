"""Ctrl-C and SIGTERM: one line, and an exit status that says which."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import stat
import sys
import threading
from types import FrameType

from captionlab.progress import current_display

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(SystemExit):
    """A signal asked the process to end; no exception handler takes it for a failure.

    Args:
        reason: the signal's name.
        code: exit status.
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(code)
        self.reason = reason


def catch_signals() -> None:
    """Raise `Stopped` in the main thread on Ctrl-C and SIGTERM; a second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        return
    own_pid = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _NAMES:
            signal.signal(each, _ignore)
        name = _NAMES[signal.Signals(number)]
        if os.getpid() == own_pid:  # workers that were forked say nothing
            current_display().freeze()
            if _is_printing():
                line = f"\nstopped by {name}; run the same command again to resume\n"
                os.write(2, line.encode())
        raise Stopped(f"stopped by {name}", 128 + number)

    for number in _NAMES:
        signal.signal(number, stop)


class _LastingOutput(io.TextIOWrapper):
    """Goes on, into nothing, when whoever read it has ended, such as `head`."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._nobody_reads()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._nobody_reads()

    def _nobody_reads(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def outlive_reader() -> None:
    """Let a training end, and write its report, though nobody reads its output any more."""
    if isinstance(sys.stdout, io.TextIOWrapper) and stat.S_ISFIFO(os.fstat(1).st_mode):
        sys.stdout = _LastingOutput(sys.stdout.buffer, sys.stdout.encoding, sys.stdout.errors)


def _ignore(number: int, frame: FrameType | None) -> None:
    """SIG_IGN would have Python print a trace for a second signal that is already on its way."""


def signal_name(number: int) -> str | None:
    """What a signal that stops a run is called; None for any other number."""
    return {int(each): name for each, name in _NAMES.items()}.get(number)


def _is_printing() -> bool:
    """Whether this process prints: a sweep prints for its runs, rank 0 for the other ranks."""
    return "CAPTIONLAB_SWEEP" not in os.environ and os.environ.get("LOCAL_RANK", "0") == "0"


def die_with_parent() -> None:
    """Linux: end this process when the one that started it is gone, even by SIGKILL."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
