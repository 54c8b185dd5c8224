"""Downloads over a network that breaks, and archives that mean harm."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from captionlab.corpora import download as module
from captionlab.corpora.archives import extract
from captionlab.corpora.download import SourceFile, download, find_source, read_sources
from captionlab.errors import ConfigError, DataError, StorageError
from captionlab.locks import OwnedLock

BODY = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body`, each request after the next word of `script`, and well when that is over."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.etag = BODY, '"one"'
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/file.bin"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        act = server.script.pop(0) if server.script else ""
        if act.isdecimal():
            self.send_error(int(act))
            return
        body, begin = server.body, 0
        changed = self.headers.get("If-Range") not in (None, server.etag)
        if wanted and act != "ignores the range" and not (changed and act != "ignores if-range"):
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            lie = 7 if act == "another part" else 0
            self.send_header("Content-Range", f"bytes {begin + lie}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        rest = body[begin:]
        if act == "wrong bytes":
            rest = bytes(len(rest))
        length = {"says more": len(rest) + 9, "says less": 1000}.get(act, len(rest))
        if act not in ("no length", "no length, cut", "no length, more"):
            self.send_header("Content-Length", str(length))
        if act != "no etag":
            self.send_header("ETag", server.etag)
        self.end_headers()
        if act in ("cuts", "no length, cut"):
            rest = rest[: len(rest) // 2]
        if act == "no length, more":
            rest += rest
        if act != "closes":
            self.wfile.write(rest)
            server.sent += len(rest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "_WAITS", (0.0,) * 5)
    monkeypatch.setattr(module, "_CHUNK", 10_000)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()


def fetch(server: Server, folder: Path, *, sure: bool = True) -> list[str]:
    known = (len(BODY), SHA) if sure else (None, None)
    return download([SourceFile(server.url, *known)], folder)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "new" / "folder") == ["file.bin: fetched"]
    assert (tmp_path / "new" / "folder" / "file.bin").read_bytes() == BODY
    assert fetch(server, tmp_path / "new" / "folder") == ["file.bin: already there"]
    assert len(server.ranges) == 1
    assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.parametrize("sure", [True, False])
def test_a_connection_that_is_cut_again_and_again_goes_on(
    server: Server, tmp_path: Path, sure: bool
) -> None:
    server.script = ["cuts"] * 12
    fetch(server, tmp_path, sure=sure)
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert server.ranges[:3] == [None, "bytes=150000-", "bytes=225000-"]
    assert server.sent == len(BODY), "no byte was sent twice"


@pytest.mark.parametrize(
    "script",
    [
        ["503", "502", "429", "500"],
        ["closes", "closes"],
        ["cuts", "503", "cuts", "closes"],
        ["cuts", "ignores the range"],
        ["cuts", "ignores the range", "cuts"],
        ["cuts", "another part"],
        ["cuts", "416"],
        ["no length"],
        ["no length, cut"],
        ["no etag", "cuts"],
    ],
    ids=" then ".join,
)
def test_what_may_be_better_later_is_tried_again(
    server: Server, tmp_path: Path, script: list[str]
) -> None:
    server.script = script
    fetch(server, tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (["404"], "answers 404 Not Found; the file is not there any more"),
        (["403"], "answers 403"),
        (["503"] * 9, "answers 503 Service Unavailable, 6 times in a row"),
        (["closes"] * 9, "6 times in a row"),
        (["wrong bytes"], "has the SHA-256"),
        (["says less"], "offers 1000 bytes, and 300000 are expected"),
        (["says more"], "offers 300009 bytes, and 300000 are expected"),
        (["no length, more"], "bytes, and 300000 is expected"),
    ],
)
def test_what_stays_wrong_is_one_line(
    server: Server, tmp_path: Path, script: list[str], message: str
) -> None:
    server.script = script
    with pytest.raises(DataError, match=message) as error:
        fetch(server, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "file.bin").exists()
    server.script = []
    fetch(server, tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == BODY


def test_a_length_that_is_a_lie_is_not_believed_for_ever(server: Server, tmp_path: Path) -> None:
    server.script = ["says more", "says more"]
    fetch(server, tmp_path, sure=False)
    assert (tmp_path / "file.bin").read_bytes() == BODY


def test_a_server_that_is_not_there_is_one_line(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"no connection \(.*refused"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("act", ["", "ignores if-range"])
@pytest.mark.parametrize("length", [200_000, 100_000, 400_000])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: Server, tmp_path: Path, act: str, length: int
) -> None:
    server.script = ["cuts"] + ["404"]
    with pytest.raises(DataError):
        fetch(server, tmp_path, sure=False)
    assert (tmp_path / "file.bin.part").stat().st_size == 150_000
    server.body, server.etag, server.script = b"x" * length, '"two"', [act]
    fetch(server, tmp_path, sure=False)
    assert (tmp_path / "file.bin").read_bytes() == b"x" * length


def test_a_full_disk_is_refused_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(StorageError, match=r"need 0\.00 GB"):
        fetch(server, tmp_path)
    assert server.ranges == []
    with pytest.raises(StorageError, match=r"needs 0\.00 GB more"):
        fetch(server, tmp_path, sure=False)
    assert not list(tmp_path.glob("*.part"))


def test_one_process_downloads_into_a_folder(server: Server, tmp_path: Path) -> None:
    with (
        OwnedLock(tmp_path / ".download.owner").hold(),
        pytest.raises(StorageError, match="another"),
    ):
        fetch(server, tmp_path)


def test_a_file_that_one_brought_is_checked_and_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"no")
    with pytest.raises(DataError, match="remove it"):
        fetch(server, tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"no"
    (tmp_path / "file.bin").write_bytes(BODY)
    fetch(server, tmp_path)
    assert server.ranges == []


def _zip(members: dict[str, bytes], **kinds: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = kinds.get("mode", 0o100644) << 16
            archive.writestr(entry, content)
    return file.getvalue()


def _tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("photos/0.jpg"))
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry)
    return file.getvalue()


def test_archives_are_unpacked_into_what_is_there(server: Server, tmp_path: Path) -> None:
    server.body = _zip({"photos/1.jpg": b"one", "photos/deep/2.jpg": b"two", "notes": b"three"})
    url = server.url.replace("file.bin", "file.zip")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.jpg").write_bytes(b"zero")
    file = SourceFile(url, len(server.body), hashlib.sha256(server.body).hexdigest())
    assert download([file], tmp_path) == ["file.zip: unpacked to notes, photos"]
    files = {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert {"0.jpg": b"zero", "1.jpg": b"one", "2.jpg": b"two", "notes": b"three"}.items() <= (
        files.items()
    )
    assert "file.zip" not in files
    assert download([file], tmp_path) == ["file.zip: already there"]
    shutil.rmtree(tmp_path / "photos")
    assert download([file], tmp_path) == ["file.zip: unpacked to notes, photos"]


def test_a_tar_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(_tar("photos/1.jpg"))
    assert extract(tmp_path / "a.tar.gz", tmp_path) == ["photos"]
    assert sorted(p.name for p in (tmp_path / "photos").iterdir()) == ["0.jpg", "1.jpg"]


def _long(content: bytes) -> bytes:
    """A zip whose listing says that its file is short."""
    archive = _zip({"a": content})
    size = len(content).to_bytes(4, "little")
    return archive.replace(size, (10).to_bytes(4, "little"))


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "up": (lambda: _zip({"good": b"", "../bad": b"x"}), "outside"),
    "deep up": (lambda: _zip({"good": b"", "a/../../bad": b"x"}), "outside"),
    "absolute": (lambda: _zip({"/tmp/bad": b"x"}), "outside"),
    "drive": (lambda: _zip({"C:/bad": b"x"}), "outside"),
    "backslash": (lambda: _zip({"..\\bad": b"x"}), "outside"),
    "zip link": (lambda: _zip({"bad": b"/etc/passwd"}, mode=0o120777), "link"),
    "tar up": (lambda: _tar("../bad"), "outside"),
    "tar absolute": (lambda: _tar("/tmp/bad"), "outside"),
    "tar link": (lambda: _tar("bad", tarfile.SYMTYPE, "/etc"), "link"),
    "tar hard link": (lambda: _tar("bad", tarfile.LNKTYPE, "photos/0.jpg"), "link"),
    "tar device": (lambda: _tar("bad", tarfile.CHRTYPE), "device"),
    "tar pipe": (lambda: _tar("bad", tarfile.FIFOTYPE), "device"),
    "twice": (lambda: _tar("photos/0.jpg"), "twice"),
    "cut zip": (lambda: _zip({"a": BODY})[:-2000], "damaged"),
    "cut tar": (lambda: _tar("photos/1.jpg")[:80], "damaged"),
    "flipped": (lambda: _zip({"a": BODY}).replace(BODY[5000:5009], b"123456789"), "damaged"),
    "longer than it says": (lambda: _long(bytes(5000)), "damaged"),
    "a web page": (lambda: b"<html>", "damaged"),
    "empty": (lambda: b"", "damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused_whole(tmp_path: Path, kind: str) -> None:
    make, message = BAD[kind]
    folder = tmp_path / "folder"
    folder.mkdir()
    archive = folder / "file.zip"
    archive.write_bytes(make())
    with pytest.raises(DataError, match=message) as error:
        extract(archive, folder)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file.zip"]


def test_a_bomb_is_refused_by_its_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "file.zip"
    archive.write_bytes(_zip({f"{i}": bytes(1_000_000) for i in range(5)}))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4_900_000))
    with pytest.raises(StorageError, match=r"unpacks to 0\.01 GB"):
        extract(archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip"]


def test_the_sources_are_whole() -> None:
    for name, source in read_sources().items():
        assert bool(source.files) != bool(source.form), name
        for file in source.files:
            assert file.url.startswith("http"), file
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32, file


def test_a_data_set_that_is_asked_for_by_a_form_says_where() -> None:
    with pytest.raises(DataError, match=r"request form, so please ask there: https://"):
        find_source("flickr30k")
    with pytest.raises(ConfigError, match=r"'mnist' is unknown; known: coco2014 \(COCO 2014"):
        find_source("mnist")
