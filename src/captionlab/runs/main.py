"""The entry: `captionlab train OVERRIDES` or `python run.py OVERRIDES`, with -m for a sweep."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import captionlab
from captionlab.config.checks import check
from captionlab.errors import CaptionLabError
from captionlab.evaluation.result import Result
from captionlab.runs.command import own_command
from captionlab.runs.folder import RunFolder, concerns, unwritable
from captionlab.runs.identity import register_resolver
from captionlab.runs.launching.machine import check_devices, check_step, gpus
from captionlab.runs.ranks import is_leader
from captionlab.runs.stopping import die_with_parent

log = logging.getLogger(__name__)

register_resolver()
OmegaConf.register_new_resolver(
    "option_groups", lambda *, _root_: _option_groups(_root_), replace=True, use_cache=False
)


def run(config: DictConfig) -> float | None:
    """Answer one configuration, from disk or by training; the task that Hydra calls.

    Returns:
        The best validation score, for a sweeper that optimises it; None where the run failed as
        a job of a sweep, which its status tells and the sweep reports.
    """
    hydra_config = HydraConfig.get()
    is_job = hydra_config.mode == RunMode.MULTIRUN
    folder = RunFolder(Path(hydra_config.runtime.output_dir))
    try:
        values = check(config)
        check_devices(values["trainer"], len(gpus()))
        check_step(values["trainer"])
        leads = is_leader(values["trainer"])
        with folder.lock() if leads else nullcontext():
            result = folder.read_result()
            if result is not None:
                log.info("answered from disk: %s", folder.path)
            else:
                result = _train(values, folder)
    except CaptionLabError as error:
        _fail(f"error: {error}", folder, is_job)
        return None
    except Exception as error:
        if isinstance(error, OSError) and concerns(error, folder.path):
            _fail(f"error: {unwritable(folder.path, error)}", folder, is_job)
            return None
        log.exception("%s failed; this is a fault of captionlab or of its libraries", folder.path)
        _fail("", folder, is_job)
        return None
    if result is None:  # of another process of the run
        return None
    if not is_job and "CAPTIONLAB_SWEEP" not in os.environ:
        from captionlab.reports import Comparison

        Comparison.read([folder.path]).print_table()
    return result.best_validation_score


def _fail(message: str, folder: RunFolder, is_job: bool) -> None:
    """Say it; a job of a sweep goes on to the next, a single run exits."""
    if message:
        log.error("%s", message)
    with suppress(CaptionLabError, OSError):
        if folder.state == "queued":  # it failed before it was running
            folder.set_state("failed", message.removeprefix("error: "), command=own_command())
    if not is_job:
        sys.exit(1)


def _train(config: Mapping[str, Any], folder: RunFolder) -> Result | None:
    from captionlab.runs.engine import execute, result_line  # brings Lightning

    result = execute(config, folder)
    if result is not None:
        log.info("%s", result_line(result))
    return result


def _option_groups(config: DictConfig) -> str:
    """The groups of the search path with their options, for `--help`; the chosen ones marked."""
    loader = GlobalHydra.instance().config_loader()
    chosen = config.hydra.runtime.choices
    lines = []
    for group in loader.list_groups(""):
        if group not in ("hydra", "schema"):
            options = [
                f"{option}*" if option == chosen.get(group) else option
                for option in loader.get_group_options(group)
            ]
            text = f"  {group:<13} {' '.join(options)}"
            lines.append(textwrap.fill(text, width=98, subsequent_indent=" " * 16))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, then run or sweep.

    Args:
        arguments: overrides and flags of Hydra; the process's own unless given.
    """
    # As hydra.main does, which would take `train` of `captionlab train` for an override. Without
    # it in sys.argv, Lightning's ddp could not start its ranks by the same command.
    version.setbase("1.3")
    if os.environ.get("LOCAL_RANK", "0") != "0":  # a rank that Lightning's ddp started
        die_with_parent()
    parser = get_args_parser()
    _run_hydra(
        args=parser.parse_intermixed_args(arguments),  # flags may stand anywhere
        args_parser=parser,
        task_function=run,
        config_path=str(Path(captionlab.__file__).parent / "conf"),
        config_name="config",
    )
