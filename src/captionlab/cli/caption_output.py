"""Where `captionlab caption` writes: lines, JSON lines, CSV or a page, photo by photo."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from captionlab.errors import ConfigError, StorageError, printable

if TYPE_CHECKING:
    from captionlab.captioner.photo_caption import PhotoCaption

    Write = Callable[[PhotoCaption], None]

FORMATS = ("text", "jsonl", "csv")
_COLUMNS = ("source", "rank", "caption", "log_probability", "truncated", "error")


@contextmanager
def open_output(out: Path | None, format_: str | None, title: str) -> Iterator[Write]:
    """A function that writes one photo's captions.

    What is written before an interruption stays.

    Args:
        out: a file, its format told by its suffix; None for the standard output.
        format_: of the standard output; None for text.
        title: of a page.

    Raises:
        ConfigError: for another suffix, or a format beside a file.
        StorageError: if the file cannot be written.
    """
    if out is None:
        yield _writer(format_ or "text", sys.stdout)
        return
    kind = out.suffix.removeprefix(".")
    if kind not in ("jsonl", "csv", "html") or format_ is not None:
        raise ConfigError(
            f"--out {out}: the file's suffix tells the format; use .jsonl, .csv or .html"
            + ("." if format_ is None else ", and leave --format out.")
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8", newline="") as file:
            if kind != "html":
                yield _writer(kind, file)
                return
            from captionlab.reports.page.captions import CaptionsPage

            with CaptionsPage(file, title) as page:
                yield lambda photo: page.add(photo.to_json(), photo.pixels)
    except OSError as error:
        path = error.filename or out  # the caller may write other files meanwhile
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from error


def _writer(kind: str, file: TextIO) -> Write:
    if kind == "text":
        return lambda photo: _write_lines(photo, file)
    if kind == "jsonl":
        return lambda photo: print(json.dumps(photo.to_json()), file=file)
    table = csv.writer(file, lineterminator="\n")
    table.writerow(_COLUMNS)
    return lambda photo: table.writerows(_rows(photo))


def _write_lines(photo: PhotoCaption, file: TextIO) -> None:
    source = printable(str(photo.source)).replace("\n", "\\n")
    for caption in photo.alternatives:
        cut = " [cut]" if caption.truncated else ""
        text = printable(caption.text)
        print(f"{source}\t{caption.log_probability:.2f}\t{text}{cut}", file=file)


def _rows(photo: PhotoCaption) -> list[list[object]]:
    source = printable(str(photo.source))
    if photo.error is not None:
        return [[source, "", "", "", "", printable(photo.error)]]
    return [
        [source, i, printable(c.text), f"{c.log_probability:.6g}", str(c.truncated).lower(), ""]
        for i, c in enumerate(photo.alternatives, start=1)
    ]
