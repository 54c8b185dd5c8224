"""Downloads of data sets, resumed when the connection breaks, and checked."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import yaml

from captionlab import __version__
from captionlab.corpora.archives import extract, is_archive
from captionlab.errors import ConfigError, DataError, StorageError
from captionlab.files import digest, write_json
from captionlab.locks import OwnedLock
from captionlab.progress import Bar, bar

log = logging.getLogger(__name__)

_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds after each failure in a row
_TIMEOUT = 60.0
_CHUNK = 1 << 20
_BUSY = (408, 429)  # and all of 5xx: later it may be better


@dataclass(frozen=True)
class SourceFile:
    """One file on a server.

    Attributes:
        url: its last part names the file.
        num_bytes: of the file; None where nobody knows.
        sha256: of the file; None where nobody is sure.
    """

    url: str
    num_bytes: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        return urlsplit(self.url).path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A data set that can be downloaded, or asked for.

    Attributes:
        title: for people.
        folder: name of its folder.
        licence: for people.
        files: to fetch; archives among them are unpacked and then removed.
        form: how to ask for the data, where it cannot be downloaded.
    """

    title: str
    folder: str
    licence: str
    files: tuple[SourceFile, ...] = ()
    form: str | None = None


class _LaterError(Exception):
    """A failure that may not happen again."""


def read_sources() -> dict[str, Source]:
    """All sources by name, from sources.yaml."""
    entries = yaml.safe_load(
        resources.files("captionlab.corpora").joinpath("sources.yaml").read_text("utf-8")
    )
    return {name: _source(**entry) for name, entry in entries.items()}


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        ConfigError: if there is none; it says which there are.
        DataError: if one has to ask for the data; it says where.
    """
    sources = read_sources()
    if name not in sources:
        known = "; ".join(f"{key} ({source.title})" for key, source in sources.items())
        raise ConfigError(f"data set {name!r} is unknown; known: {known}.")
    if form := sources[name].form:
        raise DataError(form)
    return sources[name]


def download(sources: Sequence[SourceFile], folder: Path) -> list[str]:
    """Fetch and unpack the files that are missing; called again after an interruption, it resumes.

    Args:
        sources: of one data set.
        folder: created if it does not exist.

    Returns:
        What was done, a line per file.

    Raises:
        DataError: if a server does not have the file, has another one, or keeps failing.
        StorageError: if the disk is too small, or another process downloads into the folder.
    """

    def refuse() -> None:
        raise StorageError(f"another process downloads into {folder}; wait for it.")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with OwnedLock(folder / ".download.owner").hold(refuse):
            missing = [file for file in sources if not _is_there(file, folder)]
            _check_space(missing, folder)
            return [
                _get(file, folder) if file in missing else f"{file.name}: already there"
                for file in sources
            ]
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror or error}.") from error


def _source(files: Sequence[dict[str, Any]] = (), **others: Any) -> Source:
    return Source(
        files=tuple(SourceFile(f["url"], f.get("bytes"), f.get("sha256")) for f in files), **others
    )


def _marker(file: SourceFile, folder: Path) -> Path:
    return folder / f".{file.name}.done"


def _is_there(file: SourceFile, folder: Path) -> bool:
    try:
        record = json.loads(_marker(file, folder).read_text())
    except (OSError, ValueError):
        return False
    same = file.sha256 in (None, record["sha256"])
    return same and all((folder / name).exists() for name in record["entries"])


def _check_space(missing: Sequence[SourceFile], folder: Path) -> None:
    """Photos hardly compress, so unpacked they take as much; the largest lies there twice."""
    sizes = [file.num_bytes or 0 for file in missing]
    parts = sum(path.stat().st_size for file in missing for path in folder.glob(file.name + "*"))
    needed, free = sum(sizes) + max(sizes, default=0) - parts, shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"downloading and unpacking need {needed / 1e9:.2f} GB in {folder}, and "
            f"{free / 1e9:.2f} GB are free; make room, or name another folder by --to."
        )


def _get(file: SourceFile, folder: Path) -> str:
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.exists():  # brought by other means, or a break came before it was unpacked
        sha256 = digest(target)
        if wrong := _what_is_wrong(file, target, sha256):
            raise DataError(f"{target} has {wrong} is expected; remove it to fetch it again.")
    else:
        _fetch(file, part)
        sha256 = digest(part)
        _state(part).unlink(missing_ok=True)
        if wrong := _what_is_wrong(file, part, sha256):
            part.unlink()
            raise DataError(
                f"{file.name} from {file.url} has {wrong} is expected; it was removed. Try again, "
                "and if it comes again, the file on the server changed."
            )
        part.replace(target)
    entries = [file.name]
    if is_archive(target):
        entries = extract(target, folder)
    write_json(_marker(file, folder), {"sha256": sha256, "entries": entries})
    if is_archive(target):
        target.unlink()
        return f"{file.name}: unpacked to {', '.join(entries)}"
    return f"{file.name}: fetched"


def _fetch(file: SourceFile, part: Path) -> None:
    failures, furthest = 0, _size(part)
    with bar(f"fetching {file.name}", file.num_bytes, "B") as shown:
        while True:
            try:
                _transfer(file, part, shown)
                return
            except _LaterError as error:
                failures = 1 if _size(part) > furthest else failures + 1
                furthest = max(furthest, _size(part))
                if failures > len(_WAITS):
                    kept = f" what there is of it stays in {part};" if part.exists() else ""
                    raise DataError(
                        f"{file.url} cannot be fetched: {error}, {failures} times in a row;{kept} "
                        "try again later."
                    ) from error
                wait = _WAITS[failures - 1]
                log.warning("%s: %s; trying again in %g s", file.name, error, wait)
                time.sleep(wait)


def _transfer(file: SourceFile, part: Path, shown: Bar) -> None:
    """Fetch the rest of the part file in one request.

    Raises:
        _LaterError: if the connection or the server fails; the part file is then no worse.
    """
    have, state = _size(part), _read_state(part)
    if have and have == state.get("total"):
        return
    response = _request(file, part, have, state)
    with response:
        total = _int(response.headers.get("Content-Length"))
        if response.status == 206:
            begin, total = _content_range(response.headers.get("Content-Range", ""))
            if begin != have or total != state.get("total"):
                part.unlink(missing_ok=True)
                raise _LaterError("the file on the server changed")
        else:  # all of it, whether or not a part was asked for
            have = 0
        if total is not None and file.num_bytes not in (None, total):
            raise DataError(
                f"{file.url}: the server offers {total} bytes, and {file.num_bytes} are expected; "
                "it has another file now."
            )
        if total is not None and total - have > (free := shutil.disk_usage(part.parent).free):
            raise StorageError(
                f"{file.url} needs {(total - have) / 1e9:.2f} GB more in {part.parent}, and "
                f"{free / 1e9:.2f} GB are free; make room, or name another folder by --to."
            )
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        write_json(_state(part), {"total": total, "validator": validator})
        shown.restart(have, total)
        with part.open("ab" if have else "wb") as output:
            while chunk := _read(response):
                output.write(chunk)
                shown.advance(len(chunk))
                if file.num_bytes is not None and output.tell() > file.num_bytes:
                    return  # without a length a server may never end; the size is checked later
    have = _size(part)
    expected = total if total is not None else file.num_bytes
    if expected is not None and have < expected:
        raise _LaterError(f"the connection was cut after {have} of {expected} bytes")


def _request(
    file: SourceFile, part: Path, have: int, state: dict[str, Any]
) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"captionlab/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        validator = state.get("validator")
        if validator and not validator.startswith("W/"):  # a weak one is not for ranges
            headers["If-Range"] = validator
    try:
        response: http.client.HTTPResponse = urlopen(
            Request(file.url, headers=headers), timeout=_TIMEOUT
        )
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416:
            part.unlink()
            raise _LaterError("the file on the server became shorter") from error
        if error.code in _BUSY or error.code >= 500:
            raise _LaterError(f"the server answers {error.code} {error.reason}") from error
        raise DataError(
            f"{file.url}: the server answers {error.code} {error.reason}; the file is not there "
            "any more, or not for everybody."
        ) from error
    except URLError as error:
        raise _LaterError(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _LaterError(f"the connection failed ({error or type(error).__name__})") from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _LaterError(f"the connection failed ({error or type(error).__name__})") from error


def _what_is_wrong(file: SourceFile, path: Path, digest: str) -> str | None:
    if file.num_bytes not in (None, _size(path)):
        return f"{_size(path)} bytes, and {file.num_bytes}"
    if file.sha256 not in (None, digest):
        return f"the SHA-256 {digest}, and {file.sha256}"
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, Any]:
    """What the server said of the file when the part was begun."""
    try:
        state: dict[str, Any] = json.loads(_state(part).read_text())
        return state
    except (OSError, ValueError):
        return {}


def _content_range(text: str) -> tuple[int | None, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", text.strip())
    return (int(match[1]), int(match[2])) if match else (None, None)


def _int(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
