"""The command: `python run.py OVERRIDES` for one run, `-m` for a sweep."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from captionlab.config.checks import check
from captionlab.config.schema import register_schemas
from captionlab.errors import CaptionLabError
from captionlab.runs.folder import RunFolder, is_leader
from captionlab.runs.identity import register_resolver

log = logging.getLogger(__name__)

register_schemas()
register_resolver()


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
        check(config)
        with folder.lock():
            result = folder.read_result() if folder.state == "complete" else None
            if result is not None:
                log.info("answered from disk: %s", folder.path)
            else:
                result = _train(config, folder)
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
    if not is_leader():
        return None
    if not is_job and "CAPTIONLAB_SWEEP" not in os.environ:
        from captionlab.reports import Comparison

        Comparison.read([folder.path]).print_table()
    best: float | None = next(iter(result["best_validation"].values()))
    return best


def _train(config: DictConfig, folder: RunFolder) -> dict[str, Any]:
    from captionlab.runs.engine import execute, result_line  # brings torch: not for disk answers

    log.info("run %s", folder.path)
    result = execute(config, folder)
    if result:
        log.info("%s", result_line(result))
    return result


def main() -> None:
    """Parse the command line and run or sweep; `conf/` lies beside the script that calls this."""
    conf = Path(sys.argv[0]).resolve().parent / "conf"
    hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(run)()
