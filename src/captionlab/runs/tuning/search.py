"""Trials, one or several at a time, each a process that trains into a run folder."""

from __future__ import annotations

import csv
import time
from contextlib import ExitStack
from dataclasses import dataclass

from optuna.trial import FrozenTrial, Trial

from captionlab.errors import CaptionLabError, RunError
from captionlab.locks import beating
from captionlab.metrics.registry import find_score
from captionlab.progress import LogDisplay, current_display, shown_on
from captionlab.progress.terminal import shown_on_terminal
from captionlab.run_files import PRUNED, TRAINED, RunFiles
from captionlab.runs.launching import local, machine
from captionlab.runs.launching.launcher import SweepRun
from captionlab.runs.tuning.plan import Plan
from captionlab.runs.tuning.study import Study

_POLL_SECONDS = 0.2
_MAX_FAILURES = 2  # in a row: a mistake that is not one of the values


@dataclass
class _Job:
    """A trial and its run; no process while it waits for cards."""

    trial: Trial
    run: SweepRun
    num_reported: int
    heartbeat: ExitStack  # of the status, also while no process of the run beats
    process: local.RunProcess | None = None


class Search(local.LocalLauncher):
    """Runs the trials of a study until there are enough.

    Args:
        plan: of the search.
        study: whose trials they are; other processes may run some of them.
        num_trials: of the study.
        workers: trials at a time, of this process.
        prune: whether trials end early whose validation scores fall behind.
    """

    def __init__(
        self, plan: Plan, study: Study, num_trials: int, workers: int, prune: bool
    ) -> None:
        self.plan, self.study, self.prune = plan, study, prune
        self.num_runs, self.n_jobs = num_trials, workers
        self._score = find_score(plan.monitor.removeprefix("val/"))
        self._jobs: list[_Job] = []
        self._failures = 0

    def run(self) -> None:
        """Run trials until there are enough, or none is left for this process.

        Raises:
            RunError: after several failures in a row.
        """
        self.open(machine.gpus())
        own = shown_on_terminal() if self.n_jobs > 1 else shown_on(LogDisplay())
        try:
            with own:
                done = sum(trial.state.is_finished() for trial in self.study.trials())
                shown = current_display().begin("search", self.num_runs, "trials", done, False)
                while self._fill() or self._jobs:
                    time.sleep(_POLL_SECONDS)
                    for job in [job for job in self._jobs if self._has_ended(job)]:
                        self._jobs.remove(job)
                        job.heartbeat.close()
                        self._tell(job)
                        shown.advance()
                    shown.advance(0)  # time goes on
        except BaseException:
            local.stop([job.process for job in self._jobs if job.process is not None])
            for job in self._jobs:
                job.heartbeat.close()
                if job.process is None and job.run.folder.state == "queued":
                    job.run.folder.set_state("stopped", "stopped before it started")
            raise

    def test(self, trial: FrozenTrial) -> RunFiles:
        """Score a trained trial on the test images, and give its folder.

        Raises:
            RunError: if that failed.
        """
        run = self.plan.run(trial.params, test=True)
        if run.folder.state != "complete":
            print("the test of the best trial:", flush=True)
            self.n_jobs = 1
            self.open(machine.gpus())
            process = self._start(trial.number + 1, run, self._gpus_for(run) or [], 0)
            try:
                process.popen.wait()
            finally:
                local.stop([process])
        if run.folder.state != "complete":
            raise RunError(f"{run.folder.path} was not tested: {run.folder.reason}")
        return run.folder

    def _fill(self) -> bool:
        """Start trials while there is room; whether there may be more without waiting."""
        while True:
            for job in self._jobs:
                if job.process is None:
                    self._begin(job)
            if len(self._jobs) >= self.n_jobs:
                return True
            if self.study.next_trial(self.num_runs, self._queue) is None:
                return False

    def _queue(self, trial: Trial) -> None:
        """Make a job of a trial, or end it where it needs no run."""
        try:
            run = self.plan.run(trial.params)
        except CaptionLabError as error:
            self.study.fail(trial, str(error).splitlines()[0])
            print(f"[{trial.number + 1}/{self.num_runs}] refused: {error}", flush=True)
            return
        trial.set_user_attr("run", run.folder.path.name)
        twin = self.study.twin(trial)
        known = best_epoch(run.folder, self.plan.monitor) if is_trained(run.folder) else None
        if known is not None:
            self.study.complete(trial, known[1])
            self.say(trial.number + 1, run, ": loaded from disk")
            return
        if twin is not None:
            self.study.fail(trial, f"the same as trial {twin.number + 1}")
            self.say(trial.number + 1, run, f": the same as trial {twin.number + 1}")
            return
        run.folder.set_state("queued", command=run.command)
        self._jobs.append(_Job(trial, run, self.study.num_reported(trial), ExitStack()))
        self._jobs[-1].heartbeat.enter_context(beating(run.folder.status_path))

    def _begin(self, job: _Job) -> None:
        cards = self._gpus_for(job.run)
        if cards is not None:
            waiting = self.num_runs - job.trial.number - 1
            job.process = self._start(job.trial.number + 1, job.run, cards, waiting)

    def _has_ended(self, job: _Job) -> bool:
        """Report new epochs of a run; end it where it falls behind."""
        if job.process is None:
            return False
        has_ended = job.process.popen.poll() is not None
        for epoch, score in curve(job.run.folder, self.plan.monitor)[job.num_reported :]:
            job.num_reported += 1
            job.trial.report(score, epoch)
            if not has_ended and self.prune and job.trial.should_prune():
                local.stop([job.process])
                if not is_trained(job.run.folder):
                    reason = f"{PRUNED} by `captionlab tune` after epoch {epoch + 1}"
                    job.run.folder.set_state("stopped", reason, command=job.run.command)
                return True
        return has_ended

    def _tell(self, job: _Job) -> None:
        """End a trial whose run has ended."""
        assert job.process is not None
        self.release(job.process)
        folder, number = job.run.folder, job.trial.number + 1
        status = folder.read_status() or {}
        best = best_epoch(folder, self.plan.monitor)
        if is_trained(folder) and best is not None:
            self._seconds.append(time.monotonic() - job.process.began)
            self.study.complete(job.trial, best[1])
            points = f"{self._score.scale * best[1]:.1f}"
            self.say(number, job.run, f": {self._score.title} {points} (epoch {best[0] + 1})")
        elif str(status.get("reason")).startswith(PRUNED):
            self.study.prune(job.trial)
            self.say(number, job.run, f": {status['reason']}")
        elif status.get("state") == "stopped":  # by somebody; the trial is for the next attempt
            raise RunError(f"{folder.path}: {folder.reason}.")
        else:
            self.study.fail(job.trial, folder.reason)
            self.say(number, job.run, f": {folder.reason}")
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                raise RunError(
                    f"{self._failures} trials in a row failed, the last one: {folder.reason}; "
                    "run the same command again when that is mended."
                )
            return
        self._failures = 0


def is_trained(folder: RunFiles) -> bool:
    """Whether all of a run's training is done."""
    status = folder.read_status() or {}
    return status.get("state") == "complete" or status.get("reason") == TRAINED


def curve(folder: RunFiles, monitor: str) -> list[tuple[int, float]]:
    """Epochs from 0 on with their validation scores; empty while there are none."""
    try:
        with folder.metrics_path.open(newline="", encoding="utf-8") as file:
            rows = [(row["epoch"], row.get(monitor)) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    return [(int(epoch), float(score)) for epoch, score in rows if score]


def best_epoch(folder: RunFiles, monitor: str) -> tuple[int, float] | None:
    """The first epoch of the best validation score, and that; None while there is none."""
    return max(curve(folder, monitor), key=lambda point: point[1], default=None)
