"""What a run shows on a terminal, and what it writes into a pipe."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = [
    "data.num_train=24",
    "data.num_val=4",
    "data.num_test=4",
    "data.num_workers=0",
    "data.image_size=32",
    "encoder=resnet18",
    "encoder.image_size=32",
    "callbacks=none",
]
EPOCH = r"epoch 1/2  loss \d\.\d{3}  val loss \d\.\d{3}  CIDEr-D \d+\.\d \(best so far\)  \d+\.\d s"
CONTROL = r"\x1b\[[?\d;]*[A-Za-z]|\r"


def command(folder: Path, *arguments: str) -> list[str]:
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/data"]
    return [sys.executable, str(ROOT / "run.py"), *SMALL, *places, *arguments]


def on_terminal(command: list[str], interrupt_at: str | None = None) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; gives its exit status and all that it wrote.

    Args:
        command: to run.
        interrupt_at: Ctrl-C is typed when this was written.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # Linux's way to say that all have closed it
            break
        if not chunk:
            break
        written += chunk
        if interrupt_at is not None and interrupt_at.encode() in written:
            os.write(terminal, b"\x03")
            interrupt_at = None
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()


def test_a_terminal_gets_bars_and_whole_lines(tmp_path: Path) -> None:
    code, written = on_terminal(
        command(tmp_path, "-m", "n_jobs=1", "trainer.max_epochs=2", "decoder=lstm,gru")
    )
    assert code == 0, written
    for shown in ("encoding images", "run 1 of 2", "run 2 of 2, about", "left for all"):
        assert shown in written
    for shown in (r"epoch 1/2 .* of 2 steps", r"sample {7}\w", r"reference {4}[A-Z]"):
        assert re.search(shown, re.sub(CONTROL, "", written)), shown
    assert "writing captions" in written
    lines = [re.split(CONTROL, line)[-1] for line in written.split("\r\n")]  # bars are erased
    assert len([line for line in lines if re.fullmatch(EPOCH, line)]) == 2, "one per run"
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h"), "the cursor is shown again"


def test_a_pipe_gets_a_line_per_epoch_and_no_control_characters(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "trainer.max_epochs=2"), capture_output=True, check=True, timeout=300
    )
    assert done.stderr == b""
    output = done.stdout.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)
    epochs = [line for line in output.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert re.match(EPOCH + r'  sample "\w.*", reference "[A-Z].*"$', epochs[0])
    (log,) = (tmp_path / "runs" / "shapes").glob("*/run.log")
    assert all(line in log.read_text() for line in epochs)


def test_ctrl_c_leaves_the_cursor_on_the_screen(tmp_path: Path) -> None:
    code, written = on_terminal(command(tmp_path, "trainer.max_epochs=2000"), "epoch 3/2000  loss")
    assert code == 128 + signal.SIGINT
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "Traceback" not in written
    assert written.endswith("\r\nstopped by Ctrl-C; run the same command again to resume\r\n")
