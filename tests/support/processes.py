"""A process of its own for what cannot run in the one of the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def elsewhere(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """Call a function of a module in another process, and give what it returns or raises.

    Lightning's `ddp_fork` starts its ranks there: torch refuses to train in the fork of a process
    in which autograd has started threads, which another test may have done.
    """
    return _pool().submit(function, *args, **kwargs).result()


def run_command(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, five minutes at most, and keep what it writes.

    Args:
        command: program and arguments.
        environment: variables beside those of this process.
    """
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
        check=False,
    )


def with_defaults(defaults: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """A command line's overrides, after those of `defaults` that it does not give itself."""
    given = {override.partition("=")[0] for override in overrides}
    return [*(each for each in defaults if each.partition("=")[0] not in given), *overrides]


@cache
def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_one_thread)


def _one_thread() -> Any:
    import torch

    torch.set_num_threads(1)
