"""Ctrl-C and SIGTERM end a process once, and without a trace."""

from __future__ import annotations

import sys

from tests.support.processes import run_command

_SCRIPT = """
import os, signal
from captionlab.runs.stopping import catch_signals
catch_signals()
both = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
for number in both:
    os.kill(os.getpid(), number)
signal.pthread_sigmask(signal.SIG_UNBLOCK, both)  # both are there before Python looks
"""


def test_two_signals_at_once_are_one_line() -> None:
    done = run_command([sys.executable, "-c", _SCRIPT])
    assert done.returncode in (128 + 2, 128 + 15)
    assert done.stderr.count("\n") == 2, done.stderr
    assert "run the same command again to resume" in done.stderr
