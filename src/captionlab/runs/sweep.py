"""What a sweep says at its end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from captionlab.errors import CaptionLabError, ConfigError
from captionlab.files import is_full, unwritable
from captionlab.run_files import RunFiles, find_runs
from captionlab.runs.folder import check_writable
from captionlab.runs.launching import cluster

if TYPE_CHECKING:
    from captionlab.reports.groups import Run


class SweepComparison(Callback):
    """Compares the runs of a sweep when it ends, and exits non-zero if any of them failed.

    A launcher whose jobs end elsewhere (SLURM) does not tell them here: then every run of the
    same name is compared.
    """

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Report a mistake in one line before Hydra makes a folder."""
        from captionlab.config.checks import check  # brings torch
        from captionlab.runs.requirements import check_requirements

        try:
            values = check(config)
            if values["repeats"] > 1:
                raise ConfigError(
                    f"repeats={config.repeats} works only in a sweep; add -m, or leave repeats out."
                )
            folder = Path(config.hydra.run.dir)
            # A sweep has checked its jobs, and a complete run needs nothing.
            if "CAPTIONLAB_SWEEP" not in os.environ and RunFiles(folder).state != "complete":
                check_requirements(values)
            check_writable(folder)
        except CaptionLabError as error:
            sys.exit(f"error: {error}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep that cannot be compared, before Hydra makes its folder."""
        launcher = str(config.hydra.launcher._target_)
        try:
            if not config.test:
                raise ConfigError(
                    "test=false leaves a sweep nothing to compare; leave it out. "
                    "`captionlab tune` searches by validation alone."
                )
            if config.repeats != 1 and not launcher.startswith("hydra_plugins.captionlab"):
                raise ConfigError(
                    f"repeats={config.repeats} works with hydra/launcher=local and slurm, found "
                    f"{launcher}; name the seeds, such as seed=0,1,2."
                )
            check_writable(Path(config.hydra.sweep.dir))
        except OmegaConfBaseException as error:
            sys.exit(f"error: runs_dir and name: {str(error).splitlines()[0]}")
        except CaptionLabError as error:
            sys.exit(f"error: {error}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Remember a job's folder."""
        if job_return.working_dir is not None:
            self.folders.append(Path(job_return.working_dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the comparison; Hydra would make a warning of what is raised here."""
        try:
            self._compare(config)
        except CaptionLabError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            if not is_full(error):
                raise
            sys.exit(f"error: {unwritable(Path(config.hydra.sweep.dir), error)}")

    def _compare(self, config: DictConfig) -> None:
        from captionlab.reports import Comparison

        parent = Path(config.hydra.sweep.dir)
        folders = list(dict.fromkeys(self.folders)) or find_runs(parent)
        comparisons = Comparison.read_each(folders)
        runs = [run for comparison in comparisons for run in comparison.runs]
        without = [run for run in runs if run.result is None]
        pending = _pending(without)
        if pending:
            done = len(folders) - len(without)
            print(f"{done} of {len(folders)} runs are complete, {len(pending)} are still to come;")
            print(f"  captionlab runs list {parent}")
        if len(pending) == len(folders):
            return
        for comparison in comparisons:
            comparison.print_table()
            out = parent / "report"
            written = comparison.write(out / comparison.data if len(comparisons) > 1 else out)
            print("written: " + ", ".join(str(path) for path in written))
        _print_sync(parent)
        failed = [run for run in without if run not in pending]
        if failed:
            print(f"{len(failed)} of {len(folders)} runs failed:", file=sys.stderr)
            for run in failed:
                print(f"  {run.folder}: {run.error}", file=sys.stderr)
            sys.exit(1)


def _print_sync(parent: Path) -> None:
    """What uploads the runs that W&B logged offline; wandb marks those that it has uploaded."""
    attempts = parent.glob("*/wandb/offline-run-*/run-*.wandb")
    if any(not path.with_name(f"{path.name}.synced").exists() for path in attempts):
        print(f"to upload to W&B: wandb sync {shlex.quote(str(parent))}/*/wandb/offline-run-*")


def _pending(runs: Sequence[Run]) -> list[Run]:
    """Those that wait, on a cluster too, or are running."""
    from captionlab.reports.run_list import Overview

    on_cluster = any(RunFiles(run.folder).cluster_path.exists() for run in runs)
    queued = cluster.queued_array_tasks() if on_cluster else None
    return [r for r in runs if Overview.read(r.folder, queued).state in ("queued", "running")]
