"""The workspace that `captionlab wandb workspace` makes, as a server of W&B gets it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.processes import run_command

_ANSWERS = {
    "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
    "upsertView": {"view": {"id": "V1", "name": "nw-abc-v"}, "inserted": True},
}


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a server on loopback was asked to save."""
    saved: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/graphql":
                asked = json.loads(body)
                if "upsertView" in asked["query"]:
                    saved.append(asked["variables"])
            answer = json.dumps({"data": _ANSWERS}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield saved
        server.shutdown()


def _workspace(*arguments: str) -> Any:
    command = [sys.executable, "-m", "captionlab.cli", "wandb", "workspace", *arguments]
    return run_command(command, WANDB_SILENT="true")


def test_a_workspace_shows_the_runs_of_a_group_best_first(views: list[dict[str, Any]]) -> None:
    done = _workspace("--group", "shapes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("/me/captionlab?nw=abc\n")
    (saved,) = views
    assert (saved["entityName"], saved["projectName"]) == ("me", "captionlab")
    section = json.loads(saved["spec"])["section"]
    titles = [shown["name"] for shown in section["panelBankConfig"]["sections"]]
    assert titles[:4] == ["Test scores", "Curves", "Captions", "Costs"]
    (runs,) = section["runSets"]
    assert '"value": "shapes"' in json.dumps(runs["filters"])
    assert runs["sort"]["keys"] == [
        {"key": {"section": "summary", "name": "test/cider_d"}, "ascending": False}
    ]


def test_without_a_login_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    done = _workspace()
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "wandb login" in done.stderr
    assert done.stderr.count("\n") == 1
