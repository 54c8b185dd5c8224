"""Text and JSON files, whatever wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from captionlab.errors import DataError


def read_text(path: Path) -> str:
    """The whole file; a byte order mark is tolerated.

    Raises:
        DataError: if the file cannot be read or is not UTF-8, with the line.
    """
    try:
        # Not read_text: it would turn a lone carriage return within a caption into a line's end.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `object` starts after the byte order mark, as `start` does.
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 text ({error.reason}); save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def read_lines(path: Path) -> list[str]:
    """Lines without their ends; a byte order mark and CRLF are tolerated.

    Lines end at line feeds alone: `str.splitlines` would split at U+2028 and others too, which
    captions contain.

    Raises:
        DataError: as `read_text`.
    """
    return [line.removesuffix("\r") for line in read_text(path).split("\n")]


def parse_json(text: str, place: str) -> Any:
    """A JSON value.

    Raises:
        DataError: if it is none, naming `place`.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        raise DataError(f"{place} is not valid JSON ({error}).") from error


def can_be_written(text: str) -> bool:
    """Whether a file can hold it: not half of a surrogate pair, which JSON may hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
