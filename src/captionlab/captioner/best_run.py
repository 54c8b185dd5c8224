"""The best of the finished runs in a folder."""

from __future__ import annotations

from pathlib import Path

from captionlab.errors import RunError
from captionlab.run_files import RunFiles, find_runs


def best_run(target: Path) -> Path:
    """Of a folder of runs, the finished one with the best validation score; else the path itself.

    Args:
        target: any path.

    Raises:
        RunError: if the folder holds no finished run, one whose result was changed, or runs that
            chose their best epoch by different scores.
    """
    if not target.exists():
        raise RunError(f"{target} does not exist; name a run's folder, a folder of runs or a file.")
    if target.is_file() or find_runs(target) == [target]:
        return target
    scores: dict[str, dict[Path, float]] = {}
    for folder in find_runs(target):
        files = RunFiles(folder)
        if files.state == "complete":
            files.check_unchanged()
            if not files.best_checkpoint.exists():
                continue
            result = RunFiles.read_json(files.result_path) or {}
            for name, score in result.get("best_validation", {}).items():
                if score is not None:
                    scores.setdefault(name, {})[folder] = score
    if not scores:
        raise RunError(f"{target} is no finished run, and there is none in it; train one first.")
    if len(scores) > 1:
        raise RunError(
            f"the runs in {target} are not comparable: they chose their best epoch by "
            f"{', '.join(scores)}; name one of them."
        )
    (of_run,) = scores.values()
    return max(of_run, key=lambda folder: of_run[folder])
