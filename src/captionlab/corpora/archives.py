"""Zip and tar files from elsewhere, unpacked so that nothing is written outside of the folder."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from captionlab.errors import DataError, StorageError
from captionlab.progress import bar

_CHUNK = 1 << 20
_DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    UnicodeError,
    RuntimeError,  # a password is wanted
    NotImplementedError,  # a compression that zipfile does not know
)


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    is_file: bool  # neither: a link, a device or a pipe
    entry: zipfile.ZipInfo | tarfile.TarInfo


class _Archive(NamedTuple):
    file: zipfile.ZipFile | tarfile.TarFile
    members: list[_Member]

    def open(self, member: _Member) -> IO[bytes]:
        if isinstance(self.file, zipfile.ZipFile):
            assert isinstance(member.entry, zipfile.ZipInfo)
            return self.file.open(member.entry)
        assert isinstance(member.entry, tarfile.TarInfo)
        opened = self.file.extractfile(member.entry)
        assert opened is not None, "a file"
        return opened


def is_archive(path: Path) -> bool:
    """Whether the name is one of an archive that `extract` unpacks."""
    return path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def extract(archive: Path, folder: Path) -> list[str]:
    """Unpack into a folder, all or nothing; folders that are there already are added to.

    Returns:
        The names that the archive has at its top.

    Raises:
        DataError: if the archive is damaged, or has a member that is a link, a device, or lies
            outside of the folder; nothing is unpacked then.
        StorageError: if what the listing promises does not fit on the disk.
    """
    staging = folder / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with _open(archive) as opened:
            targets = [_target(archive, member, staging) for member in opened.members]
            needed = sum(member.size for member in opened.members)
            free = shutil.disk_usage(folder).free
            if needed > free:
                raise StorageError(
                    f"{archive} unpacks to {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free "
                    f"in {folder}; make room, or name another folder."
                )
            staging.mkdir()
            with bar(f"unpacking {archive.name}", len(targets), "files") as shown:
                for member, target in zip(opened.members, targets, strict=True):
                    if member.is_folder:
                        target.mkdir(parents=True, exist_ok=True)
                    else:
                        _write(archive, opened, member, target)
                    shown.advance()
        names = sorted(path.name for path in staging.iterdir())
        for name in names:
            _move(staging / name, folder / name)
        return names
    except _DAMAGES as error:
        raise DataError(f"{archive} is damaged ({error}); remove it to fetch it again.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _open(archive: Path) -> Iterator[_Archive]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield _Archive(file, [_of_zip(entry) for entry in file.infolist()])
        return
    if not tarfile.is_tarfile(archive):
        raise DataError(
            f"{archive} is damaged: it is no zip or tar file; remove it to fetch it again."
        )
    with tarfile.open(archive) as file:
        members = [_Member(e.name, e.size, e.isdir(), e.isreg(), e) for e in file.getmembers()]
        yield _Archive(file, members)


def _of_zip(entry: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was not written on Unix
    is_file = kind in (0, stat.S_IFREG) and not entry.is_dir()
    return _Member(entry.filename, entry.file_size, entry.is_dir(), is_file, entry)


def _target(archive: Path, member: _Member, staging: Path) -> Path:
    parts = member.name.split("/")
    if not member.is_folder and not member.is_file:
        raise DataError(f"{archive} has {member.name!r}, a link or device; it is not unpacked.")
    outside = member.name.startswith("/") or ".." in parts
    if outside or any(character in member.name for character in "\\:\0"):
        raise DataError(
            f"{archive} has {member.name!r}, outside of its folder; it is not unpacked."
        )
    return staging.joinpath(*parts)


def _write(archive: Path, opened: _Archive, member: _Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with opened.open(member) as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > member.size:
                    break
                file.write(chunk)
    except FileExistsError as error:
        raise DataError(f"{archive} has {member.name!r} twice; it is not unpacked.") from error
    if written != member.size:
        raise DataError(f"{archive} is damaged: {member.name!r} is not as long as it says.")


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for child in source.iterdir():
            _move(child, target / child.name)
    else:
        source.replace(target)
