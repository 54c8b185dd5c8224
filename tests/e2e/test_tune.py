"""`captionlab tune` as a user runs it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from captionlab.run_files import TRAINED, RunFiles, find_runs
from tests.e2e.test_sweeps import SMALL


def test_a_search_tests_its_best_trial_alone_and_says_how_to_confirm_it(tmp_path: Path) -> None:
    places = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/data", "name=small"]
    done = subprocess.run(
        [sys.executable, "-m", "captionlab.cli", "tune", "--trials", "2"]
        + [*SMALL, *places, "optimizer.lr=tag(log, interval(1e-3, 1e-2))"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = {RunFiles(path) for path in find_runs(tmp_path / "runs" / "small")}
    assert len(runs) == 2
    tested = {run for run in runs if run.state == "complete"}
    assert len(tested) == 1
    (other,) = runs - tested
    assert other.reason.startswith(TRAINED)
    assert not other.predictions_path.exists()
    assert "2 complete, 0 pruned, 0 failed" in done.stdout
    assert f"best run: {tested.pop().path}" in done.stdout
    confirmation = shlex.split(done.stdout.splitlines()[-1])
    assert confirmation[:3] == ["captionlab", "train", "-m"]
    assert confirmation[-2:] == ["name=small-confirmed", "seed=1,2,3"]
