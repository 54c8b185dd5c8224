"""Progress of long work: any module reports it, and the program chooses the display.

As with logging, the reporting code does not know the display. `bar` goes to the display that
`shown_on` sets; without one, a line is logged every minute.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60.0  # in a log file


class Bar(Protocol):
    """One piece of work, of a known size or not."""

    def advance(self, number: int = 1) -> None:
        """Add `number` units to the work that is done."""

    def restart(self, done: int, total: int | None) -> None:
        """Set how much is done, and the total size."""

    def describe(self, doing: str) -> None:
        """Change the text beside the bar."""

    def end(self) -> None:
        """Remove the bar."""


class Display(Protocol):
    """Shows how far the work is."""

    def begin(
        self, doing: str, total: int | None, unit: str, done: int = 0, in_log: bool = True
    ) -> Bar:
        """Show a piece of work until it ends.

        Args:
            doing: such as `encoding images`.
            total: its size; None where nobody knows.
            unit: of the size, such as `images`; `B` is for bytes.
            done: of the size, by an earlier attempt.
            in_log: whether a log gets a line of it now and then; a training logs its epochs.
        """

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines below the bars, in place of the last ones."""

    def freeze(self) -> None:
        """Leave the screen as it is for good, from a signal handler."""

    def close(self) -> None:
        """Take everything off the screen for good."""


class LogDisplay:
    """Says in the log how far a long piece of work is, in whole lines."""

    def begin(
        self, doing: str, total: int | None, unit: str, done: int = 0, in_log: bool = True
    ) -> Bar:
        return _LoggedBar(doing, total, unit, done, is_silent=not in_log)

    def show(self, lines: Sequence[str]) -> None:
        """Nothing: what an epoch gave is logged."""

    def freeze(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _LoggedBar:
    def __init__(
        self, doing: str, total: int | None, unit: str, done: int, is_silent: bool
    ) -> None:
        self.doing, self.total, self.unit, self.done = doing, total, unit, done
        self.is_silent = is_silent
        self._logged = time.monotonic()

    def advance(self, number: int = 1) -> None:
        self.done += number
        now = time.monotonic()
        if not self.is_silent and now - self._logged >= _SECONDS_BETWEEN_LINES:
            self._logged = now
            log.info("%s: %s", self.doing, amount(self.done, self.total, self.unit))

    def restart(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total

    def describe(self, doing: str) -> None:
        self.doing = doing

    def end(self) -> None:
        """Nothing."""


_display: ContextVar[Display] = ContextVar("display")


def current_display() -> Display:
    """The one that `shown_on` named in this thread, else one that logs."""
    return _display.get(None) or LogDisplay()


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Let a display show what is reported inside; it is closed at the end."""
    token = _display.set(display)
    try:
        yield
    finally:
        display.close()
        _display.reset(token)


@contextmanager
def bar(doing: str, total: int | None, unit: str, done: int = 0) -> Iterator[Bar]:
    """A piece of work on the current display; see `Display.begin`."""
    shown = current_display().begin(doing, total, unit, done)
    try:
        yield shown
    finally:
        shown.end()


def amount(done: float, total: float | None, unit: str) -> str:
    """How much is done, such as `512 of 8091 images` or `1.5 of 17.4 MB`; empty for nothing."""
    if unit == "B":
        done, total, unit = done / 1e6, None if total is None else total / 1e6, "MB"
        return f"{done:.1f} MB" if total is None else f"{done:.1f} of {total:.1f} MB"
    if total is None:
        return f"{done:.0f} {unit}" if done else ""
    return f"{done:.0f} of {total:.0f} {unit}"


def duration(seconds: float) -> str:
    """Rounded to two digits or so, such as `45 s`, `12 min` or `3.4 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class StdoutHandler(logging.StreamHandler[Any]):
    """Logs to what is standard output when a line comes, so that a display keeps lines whole.

    On a terminal, a record that has a `brief` text is that text.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stdout

    def format(self, record: logging.LogRecord) -> str:
        brief: str | None = getattr(record, "brief", None)
        return super().format(record) if brief is None or not sys.stdout.isatty() else brief
