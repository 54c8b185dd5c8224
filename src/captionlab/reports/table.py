"""The one table of all reports, rendered for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import rich.table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from captionlab.errors import printable

_LONG_WORD = 20  # of text that may be folded; shorter words stay whole where there is room
_SHORTEST = 6  # that folded text is made
_FRAME = 3  # border and padding of a column


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: may be broken between words.
        is_text: text is aligned to the left and may be folded; numbers are neither.
        priority: a terminal that is too narrow drops the columns of the lowest priority first,
            those of equal priority together; None for one that is always shown.
    """

    title: str
    is_text: bool = False
    priority: int | None = None


class Cell(NamedTuple):
    """Text, and whether it is the best of its column."""

    text: str
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        cells: one per column; may have several lines.
        is_aside: whether it stands apart from the others, for comparison.
    """

    cells: Sequence[Cell | str]
    is_aside: bool = False

    @property
    def texts(self) -> list[str]:
        """The cells without their marks."""
        return [cell if isinstance(cell, str) else cell.text for cell in self.cells]


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Attributes:
        title: above the table on a terminal.
        columns: at least one.
        rows: any number.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    def print(self, console: Console) -> None:
        """Print to a terminal what fits its width, and name what does not; all to a pipe."""
        if console.is_terminal:
            self._printable(mark="")._print(console)
        else:
            self._printable(mark="*")._print(console)

    def _printable(self, mark: str) -> Table:
        """The same without control codes, `mark` behind the best cells where nothing is bold."""
        marked = {i for row in self.rows for i, cell in enumerate(row.cells) if _is_best(cell)}
        rows = [
            Row(
                [
                    Cell(
                        _marked(printable(text), mark if i in marked else "", _is_best(cell)),
                        _is_best(cell),
                    )
                    for i, (cell, text) in enumerate(zip(row.cells, row.texts, strict=True))
                ],
                row.is_aside,
            )
            for row in self.rows
        ]
        columns = [replace(column, title=printable(column.title)) for column in self.columns]
        return Table(printable(self.title), columns, rows)

    def _print(self, console: Console) -> None:
        layout = _layout(self, console.width if console.is_terminal else None)
        table = rich.table.Table(title=Text(self.title), title_justify="left")
        for i, width in layout.widths.items():
            column = self.columns[i]
            table.add_column(
                Text("\n".join(textwrap.wrap(column.title, width))),
                justify="left" if column.is_text else "right",
                width=width,
                overflow="fold",
            )
        for row in self.rows:
            cells = [_styled(row.cells[i]) for i in layout.widths]
            table.add_row(*cells, style="dim" if row.is_aside else None)
        before = console.width
        if not console.is_terminal:
            console.width = max(before, layout.total)
        console.print(table)
        console.width = before
        if layout.dropped:
            shown = {self.columns[i].title for i in layout.widths}
            names = dict.fromkeys(self.columns[i].title for i in layout.dropped)
            left_out = ", ".join(name for name in names if name not in shown)
            console.print(f"too narrow for: {left_out}", style="dim", markup=False, highlight=False)

    def markdown(self) -> str:
        """The table without its title; the best cells are bold."""
        ends = [":--" if column.is_text else "--:" for column in self.columns]
        lines = [_line([escape(column.title) for column in self.columns]), f"|{'|'.join(ends)}|"]
        for row in self.rows:
            cells = [
                f"**{escape(text)}**" if isinstance(cell, Cell) and cell.is_best else escape(text)
                for cell, text in zip(row.cells, row.texts, strict=True)
            ]
            if row.is_aside:
                cells[0] = f"*{cells[0]}*"
            lines.append(_line(cells))
        return "\n".join(lines)

    def csv(self) -> str:
        """Titles and rows; no marks."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.title for column in self.columns])
        writer.writerows(row.texts for row in self.rows)
        return file.getvalue()


class _Layout(NamedTuple):
    """Which columns are shown, how wide, and which are not."""

    widths: dict[int, int]
    dropped: list[int]

    @property
    def total(self) -> int:
        return sum(self.widths.values()) + _FRAME * len(self.widths) + 1


def _layout(table: Table, width: int | None) -> _Layout:
    """Text as wide as it likes, else folded, else fewer columns."""
    narrow = {i: _narrowest(table, i) for i in range(len(table.columns))}
    shown, dropped = list(narrow), list[int]()
    while width is not None:
        if _Layout({i: narrow[i] for i in shown}, []).total <= width:
            break
        priorities = [p for i in shown if (p := table.columns[i].priority) is not None]
        if not priorities:
            break
        gone = [i for i in shown if table.columns[i].priority == min(priorities)]
        shown, dropped = [i for i in shown if i not in gone], sorted(dropped + gone)
    layout = _Layout({i: narrow[i] for i in shown}, dropped)
    for i in shown:
        if table.columns[i].is_text:
            wanted = max(_cells_width(table, i), _line_width(table.columns[i].title)) - narrow[i]
            room = wanted if width is None else width - layout.total
            layout.widths[i] += max(0, min(room, wanted))
    while width is not None and layout.total > width:  # many settings with long values
        text = [i for i in shown if table.columns[i].is_text and layout.widths[i] > _SHORTEST]
        if not text:
            break
        layout.widths[max(text, key=lambda i: layout.widths[i])] -= 1
    return layout


def _cells_width(table: Table, i: int) -> int:
    return max((_line_width(row.texts[i]) for row in table.rows), default=0)


def _narrowest(table: Table, i: int) -> int:
    """Without cutting: numbers stay whole; text and titles are broken between words."""
    column = table.columns[i]
    title = max((cell_len(word) for word in column.title.split()), default=1)
    if not column.is_text:
        return max(title, _cells_width(table, i), 1)
    words = (cell_len(word) for row in table.rows for word in row.texts[i].split())
    return max(title, min(max(words, default=1), _LONG_WORD))


def _line_width(text: str) -> int:
    return max((cell_len(line) for line in text.splitlines()), default=0)


def _styled(cell: Cell | str) -> Text:
    if isinstance(cell, str):
        return Text(printable(cell))
    return Text(printable(cell.text), style="bold" if cell.is_best else "")


def _is_best(cell: Cell | str) -> bool:
    return isinstance(cell, Cell) and cell.is_best


def _marked(text: str, mark: str, is_best: bool) -> str:
    """Text with a mark, or as much space, at the end of its first line."""
    if not mark or not text:
        return text
    lines = text.split("\n")
    return "\n".join([lines[0] + (mark if is_best else " " * len(mark)), *lines[1:]])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def print_note(text: str, console: Console, style: str | None = "red") -> None:
    """Print a line as it is: brackets are no markup, and control codes are shown, not obeyed."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


def escape(text: str) -> str:
    """Text as it may stand in a Markdown table."""
    return text.replace("|", "\\|").replace("\n", "<br>")
