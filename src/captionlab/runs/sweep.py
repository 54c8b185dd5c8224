"""What a sweep says at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from captionlab.runs.folder import RunFolder


class SweepComparison(Callback):
    """Compares the runs of a sweep when it ends, and exits non-zero if any of them failed.

    A launcher whose jobs end elsewhere (SLURM) does not tell them here: then every run of the
    same name is compared.
    """

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Remember a job's folder."""
        if job_return.working_dir is not None:
            self.folders.append(Path(job_return.working_dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the comparison."""
        from captionlab.reports import Comparison

        parent = Path(config.hydra.sweep.dir)
        folders = list(dict.fromkeys(self.folders)) or sorted(
            path.parent for path in parent.glob("*/status.json")
        )
        comparison = Comparison.read(folders)
        comparison.print_table()
        written = comparison.write(parent / "report")
        print("written: " + ", ".join(str(path) for path in written))
        failed = [path for path in folders if RunFolder(path).state != "complete"]
        if failed:
            print(f"{len(failed)} of {len(folders)} runs failed:", file=sys.stderr)
            for path in failed:
                status = RunFolder.read_json(path / "status.json") or {"error": "never started"}
                print(f"  {path}: {status['error']}", file=sys.stderr)
            sys.exit(1)
