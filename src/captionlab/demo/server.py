"""The demo's web server: a page, its style and script, and captions; nothing else is answered."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from captionlab.demo.models import MAX_BYTES, DemoModel, Example, preview, read_photo
from captionlab.errors import CaptionLabError, ConfigError, DataError
from captionlab.images.photos import read_image

_MAX_WAITING = 16  # photos; each may take 20 MB
_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/demo.js": ("demo.js", "text/javascript"),
}
_HEADERS = {
    # The page may ask this server alone; no other page may embed it.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _RefusalError(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class DemoServer(ThreadingHTTPServer):
    """Serves the demo until it is shut down.

    Photos are captioned one after another, however many clients ask at once; they are kept in
    memory only, and only until they are answered.

    Args:
        models: at least one.
        examples: photos to try.
        host: name or address to listen on; all but loopback can be reached from other machines.
        port: 0 for any that is free.

    Attributes:
        address: of the page.
        is_local: whether this machine alone can reach it.
        working: held while a photo is decoded or captioned.
        closed: whether no other photo is begun.

    Raises:
        ConfigError: if host or port cannot be used.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, models: Sequence[DemoModel], examples: Sequence[Example], host: str, port: int
    ) -> None:
        self.models = models
        self.examples = examples
        self.working = threading.Lock()
        self.closed = False
        self._places = threading.BoundedSemaphore(_MAX_WAITING)
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"the demo cannot listen on {host}:{port} ({reason}); choose another --port, or 0 "
                "for any that is free."
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.is_local = _is_loopback(str(self.server_address[0]))
        self.address = f"http://{shown}:{self.server_address[1]}"

    @contextmanager
    def place(self) -> Any:
        """A place in the queue.

        Raises:
            _RefusalError: if it is full.
        """
        if not self._places.acquire(blocking=False):
            message = f"{_MAX_WAITING} photos are waiting already; try again in a moment."
            raise _RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, message)
        try:
            yield
        finally:
            self._places.release()

    def server_close(self) -> None:
        """End the photo in work, and begin no other: torch aborts a process that ends meanwhile."""
        super().server_close()
        self.closed = True
        self.working.acquire()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what failed; a client that left is no failure."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"a request failed: {type(error).__name__}: {error}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "captionlab", ""
    timeout = 30  # seconds for a client to send what it promised

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the terminal has the address, and stays readable

    def _answer(self, make: Any) -> None:
        try:
            self._require_own_page()
            kind, content = make(urlsplit(self.path))
            status = HTTPStatus.OK
        except _RefusalError as refusal:
            status, kind, content = refusal.status, "application/json", _error(refusal)
        except CaptionLabError as error:
            status, kind, content = HTTPStatus.BAD_REQUEST, "application/json", _error(error)
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status != HTTPStatus.OK:  # a body may be left unread
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _require_own_page(self) -> None:
        """Refuse pages of other sites, which a browser lets ask a local server, too."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if self.server.is_local and not _is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise _RefusalError(HTTPStatus.FORBIDDEN, f"this is no address of the demo: {host}")
        if origin is not None and urlsplit(origin).netloc != host:
            raise _RefusalError(HTTPStatus.FORBIDDEN, "only the demo's own page may ask")

    def _get(self, url: Any) -> tuple[str, bytes]:
        if url.path in _FILES:
            name, kind = _FILES[url.path]
            return kind, (files(__package__) / name).read_bytes()
        if url.path == "/facts":
            return "application/json", json.dumps(self._facts()).encode()
        if url.path == "/example":
            with self.server.working:
                return "image/jpeg", preview(self._example(parse_qs(url.query)))
        raise _RefusalError(HTTPStatus.NOT_FOUND, f"there is no {url.path[:100]}")

    def _post(self, url: Any) -> tuple[str, bytes]:
        query = parse_qs(url.query)
        with self.server.place():
            content = self._body()
            with self.server.working:
                if self.server.closed:
                    raise _RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, "the demo has ended")
                photo = self._example(query) if "example" in query else read_photo(content)
                if url.path == "/photo":
                    return "image/jpeg", preview(photo)
                if url.path == "/caption":
                    model = _chosen(query, "model", self.server.models)
                    method = query.get("method", [None])[0]
                    return "application/json", json.dumps(model.caption(photo, method)).encode()
        raise _RefusalError(HTTPStatus.NOT_FOUND, f"there is no {url.path[:100]}")

    def _facts(self) -> dict[str, Any]:
        return {
            "models": [model.facts() for model in self.server.models],
            "examples": [list(example.references) for example in self.server.examples],
            "max_bytes": MAX_BYTES,
        }

    def _example(self, query: Any) -> Image.Image:
        return read_image(_chosen(query, "example", self.server.examples).path, "of the test split")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _RefusalError(HTTPStatus.LENGTH_REQUIRED, "the length of the photo is missing")
        if int(length) > MAX_BYTES:
            message = f"this file has {int(length) / 2**20:.0f} MB; the demo takes at most "
            raise _RefusalError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{message}{MAX_BYTES // 2**20} MB."
            )
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            raise DataError("the upload was cut off.")
        return content


def _chosen(query: Any, name: str, among: Sequence[Any]) -> Any:
    text = query.get(name, [""])[0]
    if not text.isascii() or not text.isdecimal() or int(text[:9]) >= len(among):
        raise _RefusalError(HTTPStatus.NOT_FOUND, f"there is no {name} {text[:20]!r}")
    return among[int(text)]


def _error(error: Exception) -> bytes:
    return json.dumps({"error": str(error)}).encode()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
