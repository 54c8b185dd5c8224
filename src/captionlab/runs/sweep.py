"""What a sweep says at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from captionlab.errors import CaptionLabError
from captionlab.run_files import RunFiles, find_runs


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

        try:
            check(config)
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
        comparison = Comparison.read(folders)
        comparison.print_table()
        written = comparison.write(parent / "report")
        print("written: " + ", ".join(str(path) for path in written))
        runs = [RunFiles(path) for path in folders]
        failed = [run for run in runs if run.state != "complete"]
        if failed:
            print(f"{len(failed)} of {len(folders)} runs failed:", file=sys.stderr)
            for run in failed:
                status = run.read_status() or {"error": "never started"}
                print(f"  {run.path}: {status['error']}", file=sys.stderr)
            sys.exit(1)
