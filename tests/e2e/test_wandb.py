"""W&B offline: a sweep that is stopped, resumed and uploaded later."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from captionlab.reports.wandb_workspace import COSTS, curves, shown_scores
from tests.e2e.test_sweeps import folders, run, start, wait_for_epochs
from tests.support.wandb_files import attempts

ARGUMENTS = ("-m", "seed=0", "logger=wandb", "logger.mode=offline", "trainer.max_epochs=60")


def test_a_stopped_sweep_resumes_in_the_same_wandb_run_and_says_how_to_upload_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    stopped = start(tmp_path, *ARGUMENTS)
    wait_for_epochs(tmp_path, 1)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=60)
    done = run(tmp_path, *ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"wandb sync {tmp_path}/runs/shapes/*/wandb/offline-run-*" in done.stdout
    (files,) = folders(tmp_path)
    first, second = attempts(files.path)
    assert first.run.run_id == second.run.run_id
    assert first.run.run_group == second.run.run_group == "shapes"
    assert (first.exit_code, first.is_preempting) == (128 + signal.SIGTERM, True)
    assert (second.exit_code, second.is_preempting) == (0, False)
    for name in ("val/cider_d", "train/loss_epoch"):
        epochs = [row["epoch"] for each in (first, second) for row in each.history if name in row]
        assert sorted({*epochs}) == list(range(60)), name
        assert len(epochs) <= 61, "an epoch that was cut short may be there twice"
    for name in ("test/cider_d", "best/val/cider_d", "last/val/cider_d", "cost/seconds_train"):
        assert name in second.summary
    logged = {*second.summary, *(name for row in second.history for name in row)}
    titles = curves()
    names = [*titles["validation score"], *titles["loss"], "lr-AdamW"]
    names += [f"test/{score.name}" for score in shown_scores()]
    names += [f"cost/{cost}" for cost in COSTS]
    assert logged.issuperset(names), "what a workspace shows"
