"""What a sweep says at its end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from captionlab.errors import CaptionLabError
from captionlab.run_files import RunFiles, find_runs
from captionlab.runs.folder import check_writable


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
            folder = Path(config.hydra.run.dir)
            # A sweep has checked its jobs, and a complete run needs nothing.
            if "CAPTIONLAB_SWEEP" not in os.environ and RunFiles(folder).state != "complete":
                check_requirements(values)
            check_writable(folder)
        except CaptionLabError as error:
            sys.exit(f"error: {error}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The same, of the folder of a sweep."""
        try:
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
        """Print and write the comparison."""
        from captionlab.reports import Comparison

        parent = Path(config.hydra.sweep.dir)
        folders = list(dict.fromkeys(self.folders)) or find_runs(parent)
        comparisons = Comparison.read_each(folders)
        runs = [run for comparison in comparisons for run in comparison.runs]
        without = [run for run in runs if run.result is None]
        pending = [run for run in without if is_pending(run.folder)]
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
        failed = [run for run in without if run not in pending]
        if failed:
            print(f"{len(failed)} of {len(folders)} runs failed:", file=sys.stderr)
            for run in failed:
                print(f"  {run.folder}: {run.error}", file=sys.stderr)
            sys.exit(1)


def is_pending(folder: Path) -> bool:
    """Whether a run waits or is running."""
    try:
        return RunFiles(folder).condition in ("queued", "running")
    except CaptionLabError:
        return False
