"""The `captionlab` command itself."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from captionlab import __version__
from captionlab.cli import main, runs
from captionlab.runs.folder import RunFolder

CONF = Path(__file__).parents[2] / "conf"
COMMANDS = ("train", "tune", "caption", "evaluate", "report", "data", "features")


@cache
def help_of(*command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "captionlab.cli", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_fits_on_one_screen(command: tuple[str, ...]) -> None:
    lines = help_of(*command)
    assert len(lines) <= 50
    assert max(map(len, lines)) <= (80 if command in ((), ("train",)) else 100)


def test_the_help_names_every_command() -> None:
    assert set(COMMANDS) <= {word for line in help_of() for word in line.split()[:1]}


def test_the_help_of_train_lists_every_group_and_option() -> None:
    words = {word.rstrip("*") for line in help_of("train") for word in line.split()}
    paths = [path for path in CONF.glob("*/*.yaml") if path.parent.name != "hydra"]
    assert {path.parent.name for path in paths} | {path.stem for path in paths} <= words


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"captionlab {__version__}\n"


def test_starting_imports_nothing_heavy() -> None:
    heavy = ("torch", "hydra", "numpy", "PIL", "matplotlib")
    code = f"import captionlab.cli, sys; sys.exit(str(set({heavy}) & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_output_that_nobody_reads_any_more_is_no_error(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").set_state("failed", "DataError: no photo")
    read, write = os.pipe()
    os.close(read)  # as `head` does
    command = [sys.executable, "-m", "captionlab.cli", "runs", "list", str(tmp_path), "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_empty_argument_is_not_the_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder(tmp_path / "run").set_state("complete")
    monkeypatch.chdir(tmp_path)
    for words in (["runs", "remove", ""], ["caption", "a.jpg", "--run", ""], ["report", "--out="]):
        assert main(words) == 1
        assert "an argument is empty" in capsys.readouterr().err
    assert (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's full disk")
def test_output_into_a_full_disk_is_one_line(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").set_state("complete")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "captionlab.cli", "runs", "list", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == "error: the output cannot be written (No space left on device).\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "\nstopped by Ctrl-C\n"),
        (MemoryError(), 1, "error: out of memory (no more is known); use a smaller data.batch"),
        (RuntimeError("CUDA error: out of memory"), 1, "error: out of memory (CUDA error"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            1,
            "error: out of memory (",
        ),
    ],
)
def test_what_may_happen_to_any_command_is_one_line(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(folders: object) -> None:
        raise error

    monkeypatch.setattr(runs, "_overviews", fail)
    assert main(["runs", "list", "x"]) == code
    assert capsys.readouterr().err.startswith(message)
