"""Files and folders that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from captionlab.errors import StorageError
from captionlab.locks import OwnedLock

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_DIGEST = b"sha256:"
_ARCHIVE_END = b"PK\x05\x06"  # and 18 bytes, the last two for the length of a comment


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a temporary file beside `path`, then rename it; text as UTF-8, line ends as they are.

    Raises:
        StorageError: if the disk is full or read-only; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _remove(temporary)


def is_full(error: BaseException) -> bool:
    """Whether something could not be written because a disk is full, over quota or read-only."""
    return isinstance(error, OSError) and error.errno in _FULL


def unwritable(path: Path, error: OSError) -> StorageError:
    """What to tell of a file that cannot be written."""
    return StorageError(
        f"{path} cannot be written ({error.strerror}); what was saved before is kept. Make room, "
        "or name another folder, then run the same command again."
    )


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # its folder may be no folder: the error that says so is on its way
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any], indent: int | None = None) -> None:
    """Write a JSON object atomically."""
    write_atomically(path, json.dumps(value, indent=indent) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `path` at the end; an error leaves nothing.

    The caller holds a lock, so that what an interrupted process left is removed first.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)
    except OSError as error:
        if is_full(error):
            raise unwritable(path, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fill_once(
    folder: Path,
    fill: Callable[[Path], object],
    on_wait: Callable[[], object] | None = None,
) -> None:
    """Fill a folder, unless it is there; of processes that ask at once, one does.

    Args:
        folder: which to make.
        fill: writes the files into an empty folder, which becomes `folder` at the end.
        on_wait: called once if another process fills it.

    Raises:
        StorageError: if the disk is full or read-only.
    """

    def make() -> None:
        with new_folder(folder) as temporary:
            fill(temporary)

    make_once(folder, make, folder.parent / f".{folder.name}.owner", on_wait)


def make_once(
    path: Path,
    make: Callable[[], object],
    lock: Path,
    on_wait: Callable[[], object] | None = None,
) -> None:
    """Make what is not there; of processes that ask at once, one does.

    Args:
        path: is there when it is made. Nothing is written where it is: it may be read-only.
        make: makes it.
        lock: names who does.
        on_wait: called once if another process does.
    """
    if path.exists():
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    with OwnedLock(lock).hold(on_wait):
        if not path.exists():
            make()


def remember(record: Path, value: Mapping[str, Any]) -> None:
    """Keep a JSON object for later, where that can be done: a cache may be read-only or full."""
    with suppress(OSError, StorageError):
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, value)


def size_of(path: Path) -> int | None:
    """Bytes of a file; None where there is none, such as behind a link to nothing."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(archive: bytes) -> bytes:
    """A ZIP archive, such as torch saves, with its digest as the archive's comment.

    Whatever reads archives can read it.
    """
    length = len(_DIGEST) + 2 * hashlib.sha256().digest_size
    content = archive[:-2] + length.to_bytes(2, "little")
    return content + _DIGEST + hashlib.sha256(content).hexdigest().encode()


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: with the length of a JSON object, and that."""
    try:
        with path.open("rb") as file:
            first = file.read(9)
            file.seek(0, os.SEEK_END)
            size = file.tell()
    except OSError:
        return False
    return first[8:] == b"{" and int.from_bytes(first[:8], "little") <= max(size, 2**20)


def read_whole(path: Path) -> bytes:
    """The content of a file, compared with its digest if it is an archive that has one.

    Raises:
        StorageError: if the digest is another.
    """
    content = path.read_bytes()
    size = 2 * hashlib.sha256().digest_size
    head, mark, digest = content[: -size - 7], content[-size - 7 : -size], content[-size:]
    is_plain = mark != _DIGEST and content[-22:-18] == _ARCHIVE_END
    if not is_plain and digest != hashlib.sha256(head).hexdigest().encode():
        raise StorageError(
            f"{path} is damaged: its content is not what was written; remove it, and run the "
            "command that made it again."
        )
    return content
