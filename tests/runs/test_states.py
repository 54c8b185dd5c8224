"""States of a run, as whoever looks at its folder sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from captionlab.cli import main
from captionlab.errors import DataError, RunError
from captionlab.locks import Owner
from captionlab.runs.folder import RunFolder, check_writable
from captionlab.runs.stopping import Stopped, signal_name


def test_a_run_is_running_then_complete(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.condition is None
    with folder.running():
        assert folder.condition == "running"
    assert folder.condition == "complete"
    assert folder.reason == ""


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (Stopped("stopped by Ctrl-C", 130), "stopped", "stopped by Ctrl-C; run the same command"),
        (ValueError("why\nmore"), "failed", "ValueError: why"),
    ],
)
def test_how_a_run_ended_is_said(
    tmp_path: Path, error: BaseException, state: str, reason: str
) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(type(error)), folder.running():
        raise error
    assert folder.condition == state
    assert folder.reason.startswith(reason)
    assert "\n" not in folder.reason


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_dead_run_is_told_from_a_living_one_here_and_elsewhere(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for owner, condition in (
        (replace(Owner.current(), pid=process.pid), "dead"),
        (replace(Owner.current(), host="elsewhere"), state),
    ):
        monkeypatch.setattr(Owner, "current", lambda owner=owner: owner)
        folder.set_state(state)  # type: ignore[arg-type]
        assert folder.condition == condition
    os.utime(folder.status_path, (0, 0))
    assert folder.condition == "dead"
    assert "run the same command again" in folder.reason


@pytest.mark.parametrize("content", ["[]", "{}", '{"state": "odd"}', "\x00", '{"state"'])
def test_a_damaged_status_is_one_line(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "status.json").write_text(content)
    with pytest.raises(RunError, match=r"status\.json is damaged"):
        _ = RunFolder(tmp_path).condition
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        check_writable(tmp_path / "file" / "run")
    check_writable(tmp_path / "new" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "it leaves nothing"


def test_what_resuming_needs_stays_until_the_run_is_complete(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    folder.last_checkpoint.touch()
    with pytest.raises(Stopped), folder.running():
        raise Stopped("stopped by SIGTERM", 143)  # while results are uploaded, say
    assert folder.last_checkpoint.exists()
    with folder.running():
        pass
    assert not folder.last_checkpoint.exists()


def test_the_status_says_how_it_was_started(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.set_state("queued", command=["python", "run.py", "seed=1"])
    status = json.loads(folder.status_path.read_text())
    assert status["command"] == ["python", "run.py", "seed=1"]
    assert status["working_directory"] == os.getcwd()


def test_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for path in (tmp_path, folder.checkpoints):
        (path / ".last.ckpt.1.tmp").touch()
    with folder.lock():
        assert [path.name for path in tmp_path.rglob(".*")] == [".owner"]


def test_a_message_never_moves_the_cursor() -> None:
    error = DataError("photo \x1b[2Jgrün\udc80.jpg\nis damaged")
    assert str(error) == "photo \\x1b[2Jgrün\\udc80.jpg\nis damaged"


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGINT, "stopped by Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_repeat_that_is_stopped_before_it_trains_replaces_the_older_state(
    tmp_path: Path, number: signal.Signals, reason: str
) -> None:
    code = f"""if True:
        import os, sys, types
        engine = types.ModuleType("captionlab.runs.engine")  # a signal while it is imported
        def attribute(name):
            if name != "execute":  # others look at all modules
                raise AttributeError(name)
            os.kill(os.getpid(), {int(number)})
        engine.__getattr__ = attribute
        sys.modules["captionlab.runs.engine"] = engine
        sys.argv = ["run.py", "runs_dir={tmp_path}/runs", "cache_dir={tmp_path}/data"]
        from captionlab.runs.stopping import catch_signals
        catch_signals()
        from captionlab.runs.folder import RunFolder
        own_lock = RunFolder.lock
        def lock(self):
            self.set_state("failed", "an older reason")
            return own_lock(self)
        RunFolder.lock = lock
        from captionlab.runs.main import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + number, done.stderr
    (path,) = tmp_path.glob("runs/shapes/*/status.json")
    status = json.loads(path.read_text())
    assert status["state"] == "stopped"
    assert reason in status["reason"]


@pytest.mark.parametrize(("code", "name"), [(2, "Ctrl-C"), (15, "SIGTERM"), (9, None), (1, None)])
def test_a_signal_that_stops_is_told_from_one_that_kills(code: int, name: str | None) -> None:
    assert signal_name(code) == name
