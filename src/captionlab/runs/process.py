"""The process of a run: its memory, and what libraries say in it."""

from __future__ import annotations

import ctypes
import logging
import platform
import resource
import warnings
from pathlib import Path


def peak_memory_bytes() -> int:
    """Of this process and its living children (Java), resident; an upper bound of their sum."""
    own = _peak_of("self")
    if own is None:  # where there is no /proc; on Linux it would have the starting process in it
        unit = 1 if platform.system() == "Darwin" else 1024
        own = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lists = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return own + sum(_peak_of(child) or 0 for children in lists for child in children)


def _peak_of(process: str) -> int | None:
    """In bytes, of Linux's process table; None if it has ended or is not listed."""
    try:
        lines = Path("/proc", process, "status").read_text().splitlines()
    except OSError:
        return None
    peaks = [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return peaks[0] if peaks else None


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks: giving each step's back to Linux costs up to half its time."""
    if platform.libc_ver()[0] == "glibc":
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**28)):
            ctypes.CDLL(None).mallopt(option, value)  # mmap and trim threshold, top pad


def return_freed_memory() -> None:
    """Give back what the encoder worked in: the decoder's blocks are of other sizes."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def quieten() -> None:
    """Silence advice of Lightning's that does not hold here, and traces of a log's full disk."""
    logging.raiseExceptions = False
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*isinstance.treespec, LeafSpec.*",  # its own: pytorch-lightning #21326, still in 2.6.6
        ".*smaller than the logging interval.*",  # #7705: curves are per epoch here
        ".*does not have many workers.*",  # #1322: features are read from memory maps
        ".*Checkpoint directory .* exists and is not empty.*",  # PR #9615: a run resumes there
        ".*The `srun` command is available.*",  # a run on a login node is meant to be there
        ".*checkpoint that ended before the epoch ended.*",  # its sampler resumes in mid-epoch
        ".*recommended to use .*sync_dist=True.*",  # every rank logs the same sums
        ".*in eval mode at the start of training.*",  # #20986: the encoder stays so
        ".*nn.functional.all_reduce is deprecated.*",  # what replaces it is private (torch 2.14)
    ):
        warnings.filterwarnings("ignore", message=message)
