"""The entry: `captionlab train OVERRIDES` or `python run.py OVERRIDES`, with -m for a sweep."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
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
from captionlab.runs.folder import RunFolder
from captionlab.runs.identity import register_resolver

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
        with folder.lock():
            result = folder.read_result()
            if result is not None:
                log.info("answered from disk: %s", folder.path)
            else:
                result = _train(values, folder)
    except CaptionLabError as error:
        log.error("error: %s", error)
        if is_job:
            return None
        sys.exit(1)
    except Exception:
        log.exception("%s failed; this is a fault of captionlab or of its libraries", folder.path)
        if is_job:
            return None
        sys.exit(1)
    if result is None:  # of another process of the run
        return None
    if not is_job and "CAPTIONLAB_SWEEP" not in os.environ:
        from captionlab.reports import Comparison

        Comparison.read([folder.path]).print_table()
    return result.best_validation_score


def _train(config: Mapping[str, Any], folder: RunFolder) -> Result | None:
    from captionlab.runs.engine import execute, result_line  # brings Lightning

    log.info("run %s", folder.path)
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
    parser = get_args_parser()
    _run_hydra(
        args=parser.parse_intermixed_args(arguments),  # flags may stand anywhere
        args_parser=parser,
        task_function=run,
        config_path=str(Path(captionlab.__file__).parent / "conf"),
        config_name="config",
    )
