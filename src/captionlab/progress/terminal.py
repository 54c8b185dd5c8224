"""Bars at the bottom of a terminal."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from captionlab.progress import Bar, Display, LogDisplay, amount, duration, shown_on

_SECONDS_BETWEEN_DRAWINGS = 0.2

Header = Callable[[float, float | None], str]


def shown_on_terminal(header: Header | None = None) -> AbstractContextManager[None]:
    """Show what is reported inside as bars where a person is watching, else in the log.

    Args:
        header: see `TerminalDisplay`.
    """
    return shown_on(TerminalDisplay(Console(stderr=True), header) if is_watched() else LogDisplay())


def is_watched() -> bool:
    """Whether bars disturb nobody: standard error is a terminal, and output no pipe to one."""
    try:
        output = os.fstat(sys.stdout.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # replaced, or closed
        return False
    return sys.stderr.isatty() and (sys.stdout.isatty() or stat.S_ISREG(output))


class TerminalDisplay(Display):
    """Bars and lines at the bottom of a terminal, below what is printed meanwhile.

    It is drawn by the thread that reports: a thread of its own could hold a lock at the moment
    when worker processes are forked.

    Args:
        console: of the terminal.
        header: makes the first line from the seconds since the start and those that are left of
            the training, None where it is not training.
        clock: gives seconds.
    """

    def __init__(
        self,
        console: Console,
        header: Header | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = _Rows(console, header, clock)
        self._clock = clock
        self._drawn = clock()
        self._closed = False

    def begin(
        self, doing: str, total: int | None, unit: str, done: int = 0, in_log: bool = True
    ) -> Bar:
        number = self._rows.add_task(
            doing, total=total, completed=done, unit=unit, initial=done, in_log=in_log
        )
        self._draw(at_once=True)
        return _DrawnBar(self._rows, number, self._draw)

    def show(self, lines: Sequence[str]) -> None:
        self._rows.lines = list(lines)
        self._draw(at_once=True)

    def freeze(self) -> None:
        self._closed = True
        if self._rows.live.is_started:  # rich may be in the middle of a write
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            os.write(2, b"\x1b[?25h")  # the cursor

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._rows.stop()

    def _draw(self, at_once: bool = False) -> None:
        if self._closed:
            return
        if not self._rows.tasks and not self._rows.lines:
            self._rows.stop()
        elif at_once or self._clock() - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
            self._rows.start()
            self._rows.refresh()
            self._drawn = self._clock()


class _DrawnBar:
    def __init__(self, rows: Progress, number: TaskID, draw: Callable[..., None]) -> None:
        self._rows = rows
        self._number = number
        self._draw = draw

    def advance(self, number: int = 1) -> None:
        self._rows.advance(self._number, number)
        self._draw()

    def restart(self, done: int, total: int | None) -> None:
        self._rows.update(self._number, total=total, completed=done, initial=done)
        self._draw(at_once=True)

    def describe(self, doing: str) -> None:
        self._rows.update(self._number, description=doing)
        self._draw()

    def end(self) -> None:
        self._rows.remove_task(self._number)
        self._draw(at_once=True)


class _Rows(Progress):
    """The bars, below the header and above the lines."""

    def __init__(self, console: Console, header: Header | None, clock: Callable[[], float]) -> None:
        self.header = header
        self.clock = clock
        self.began = clock()
        self.lines: list[str] = []
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            _Amount(table_column=Column(no_wrap=True)),
            _TimeLeft(table_column=Column(no_wrap=True)),
            console=console,
            get_time=clock,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.header is not None:
            left = [_left(task) for task in self.tasks if not task.fields["in_log"]]
            yield Text(self.header(self.clock() - self.began, left[0] if left else None))
        yield self.make_tasks_table(self.tasks)
        yield from map(Text, self.lines)


class _Amount(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(amount(task.completed, task.total, task.fields["unit"]))


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = _left(task)
        return Text("" if left is None else f"{duration(left)} left", justify="right")


def _left(task: Task) -> float | None:
    """Seconds to the end at the mean speed so far; None before anything is done."""
    done: float = task.completed - task.fields["initial"]
    if task.remaining is None or task.elapsed is None or done <= 0:
        return None
    return task.elapsed * task.remaining / done
