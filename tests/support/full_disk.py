"""Runs the command in forks of a prepared process, with a disk that is full at one moment."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captionlab.metrics import java

_PRELOADED = (
    "captionlab.runs.engine",
    "captionlab.runs.main",
    "captionlab.reports",
    "matplotlib.backends.backend_agg",
    "torch.utils.tensorboard",
    "torchvision.models",
)


class Place(NamedTuple):
    """A moment at which something is written.

    Attributes:
        name: of the file, its digits as 0.
        number: which time it is, from 1 on.
    """

    name: str
    number: int


def run(
    arguments: Sequence[str], root: Path, full_at: Place | None = None
) -> tuple[int, str, list[Place]]:
    """`captionlab train` in a fork.

    Args:
        arguments: of the command.
        root: below which the disk may be full.
        full_at: when it is; None for never.

    Returns:
        Exit status, what was printed, and where below `root` something was written.
    """
    for name in _PRELOADED:  # the forks need not import them
        importlib.import_module(name)
    java.find_java = lambda: "/nowhere/java"  # it takes seconds to start
    output, places = root.with_name("output.txt"), root.with_name("places.txt")
    root.mkdir(parents=True, exist_ok=True)
    places.write_text("")
    pid = os.fork()
    if pid == 0:
        _run_here(arguments, root, full_at, output, places)
    _, status = os.waitpid(pid, 0)
    written = [line.split("\t") for line in places.read_text().splitlines()]
    found = [Place(name, int(number)) for name, number in written]
    return os.waitstatus_to_exitcode(status), output.read_text(), found


def _run_here(
    arguments: Sequence[str], root: Path, full_at: Place | None, output: Path, places: Path
) -> None:
    """Never returns."""
    with output.open("w") as file, places.open("a") as list_of_places:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        code: Any = 1
        try:
            counts: Counter[str] = Counter()

            def watch(event: str, details: tuple[Any, ...]) -> None:
                name = _written(event, details, root)
                if name is None:
                    return
                counts[name] += 1
                place = Place(name, counts[name])
                os.write(list_of_places.fileno(), f"{place.name}\t{place.number}\n".encode())
                if place == full_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            sys.addaudithook(watch)
            sys.argv = ["run.py", *arguments]
            from captionlab.runs.main import main

            main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = stop.code
            if isinstance(code, str):
                print(code)
                code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code or 0)


def _written(event: str, details: tuple[Any, ...], root: Path) -> str | None:
    """The name of what an event writes below `root`, its digits as 0; None for other events."""
    if event not in ("open", "os.mkdir") or not isinstance(details[0], str | Path):
        return None
    if event == "os.mkdir" and os.path.exists(details[0]):
        return None
    if event == "open" and not details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return None
    path = os.path.abspath(details[0])
    if not path.startswith(f"{root}{os.sep}"):
        return None
    return re.sub(r"\d+", "0", os.path.basename(path))
