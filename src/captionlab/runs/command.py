"""The command that started this process, and those of the runs of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser

# Overrides of the sweep itself: no business of one of its runs.
_OF_THE_SWEEP = (
    "hydra.mode",
    "hydra.sweep",
    "hydra/sweeper",
    "hydra.launcher",
    "hydra/launcher",
    "n_jobs=",
    "repeats=",
    "retry=",
)
# Of an earlier or surrounding distributed job: they would make a run a rank of it.
DISTRIBUTED = (
    "LOCAL_RANK",
    "RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PL_GLOBAL_SEED",
)
# Of a surrounding SLURM step: Lightning would take a run for one of its tasks.
SLURM_TASK = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID")


def own_command() -> list[str] | None:
    """What this process was started by; None if it is a sweep, or no command of ours."""
    is_run = "train" in sys.argv[1:2] or sys.argv[0].endswith("run.py")
    is_sweep = any(word in ("-m", "--multirun") for word in sys.argv)
    return None if is_sweep or not is_run else [sys.executable, *_start(), *sys.argv[1:]]


def run_command(overrides: Sequence[str], hydra_overrides: Sequence[str]) -> list[str]:
    """The command of one run of this process's sweep.

    Args:
        overrides: of the run.
        hydra_overrides: of the sweep's command line that concern Hydra.
    """
    given = [*overrides, *hydra_overrides]
    return [
        *_entry(),
        *_config_flags(),
        *(o for o in given if not o.lstrip("+~").startswith(_OF_THE_SWEEP)),
        "hydra.mode=RUN",
        "hydra/sweeper=basic",
        "repeats=1",  # whatever a configuration file says of the sweep
    ]


def _start() -> list[str]:
    """A script or a module; Lightning's ddp starts its ranks by the same rule."""
    spec = sys.modules["__main__"].__spec__
    return [sys.argv[0]] if spec is None else ["-m", spec.name]


def _entry() -> list[str]:
    subcommand = [word for word in sys.argv[1:2] if word == "train"]  # of `captionlab`
    return [sys.executable, *_start(), *subcommand]


def _config_flags() -> list[str]:
    """The command line's own --config-dir and its like."""
    arguments = get_args_parser().parse_intermixed_args(sys.argv[1:])
    flags = []
    for flag in ("config_dir", "config_path", "config_name"):
        if getattr(arguments, flag) is not None:
            flags += [f"--{flag.replace('_', '-')}", getattr(arguments, flag)]
    return flags
