"""`hydra/launcher=local`: one or several runs at a time on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from captionlab.errors import printable
from captionlab.images.photos import num_cores
from captionlab.locks import beating
from captionlab.options import Count
from captionlab.progress import LogDisplay, current_display, shown_on
from captionlab.progress.terminal import shown_on_terminal
from captionlab.runs.command import DISTRIBUTED, SLURM_TASK
from captionlab.runs.folder import RunFolder, check_writable
from captionlab.runs.launching import machine
from captionlab.runs.launching.launcher import SweepLauncher, SweepRun
from captionlab.runs.place import PLACE_VARIABLE, SweepPlace
from captionlab.runs.stopping import die_with_parent, signal_name

_POLL_SECONDS = 0.1
_LONGEST_LINE = 2**12  # bytes of output.log that are searched for its last line
_GRACE_SECONDS = 20.0  # for a run to write that it was stopped


@dataclass
class RunProcess:
    """A run that was started."""

    number: int
    run: SweepRun
    popen: subprocess.Popen[bytes]
    gpus: list[str]
    port: int
    began: float


class LocalLauncher(SweepLauncher):
    """Shares this machine's cores and GPUs among runs.

    Args:
        n_jobs: the most runs at a time; with more than one, each prints into `output.log` in its
            folder, and a terminal shows the last line of each.
    """

    def __init__(self, n_jobs: Count = 1) -> None:
        self.n_jobs = n_jobs
        self.check_own_options()

    def check_machine(self, runs: Sequence[SweepRun]) -> None:
        self._gpus = machine.gpus()
        for run in runs:
            machine.check_step(run.trainer, is_sweep=True)
            machine.check_devices(run.trainer, len(self._gpus))
            if self.n_jobs > 1:
                machine.check_shared(run.trainer, len(self._gpus))
            check_writable(Path(run.config.cache_dir), "cache_dir")

    def open(self, gpus: Sequence[str]) -> None:
        """Begin to share out this machine, with these of its cards."""
        self._gpus, self._free_gpus = list(gpus), list(gpus)
        self._ports = machine.free_ports(self.n_jobs)
        # Of the whole sweep, not of the runs that are left: sums depend on the number of threads,
        # and a repeat must come to the same results.
        self._num_sharing = min(self.n_jobs, self.num_runs)
        self._seconds: list[float] = []  # of the runs that ended

    def run_all(self, runs: dict[int, SweepRun]) -> None:
        self.open(self._gpus)
        self.n_jobs = min(self.n_jobs, len(runs))  # no later batch of the sweeper is larger
        waiting = list(runs.items()) if self.n_jobs == 1 else _first_of_each_encoder(runs)
        running: list[RunProcess] = []
        last_lines: list[str] = []
        # Another sweep may train a run of this one, too; what it wrote is left as it is.
        idle = [r for r in runs.values() if r.folder.condition not in ("running", "complete")]
        for run in idle:
            run.folder.cluster_path.unlink(missing_ok=True)
            run.folder.set_state("queued", command=run.command)
        # A run that has the terminal to itself shows how far it is.
        own = shown_on_terminal() if self.n_jobs > 1 else shown_on(LogDisplay())
        try:
            with beating(*(run.folder.status_path for run in idle)), own:
                shown = current_display().begin("sweep", len(runs), "runs", in_log=False)
                while waiting or running:
                    while waiting and len(running) < self.n_jobs:
                        cards = self._gpus_for(waiting[0][1])
                        if cards is None:  # until another run ends
                            break
                        number, run = waiting.pop(0)
                        running.append(self._start(number, run, cards, len(waiting)))
                    time.sleep(_POLL_SECONDS)
                    for process in [p for p in running if p.popen.poll() is not None]:
                        running.remove(process)
                        self._end(process)
                        shown.advance()
                    shown.advance(0)  # time goes on
                    if self.n_jobs > 1:
                        lines = [
                            self.line(p.number, p.run, _last_words(p.run.folder)) for p in running
                        ]
                        if lines != last_lines:
                            current_display().show(lines)
                            last_lines = lines
        except BaseException as error:
            stop(running)
            reason = f"{getattr(error, 'reason', 'the sweep failed')} before it started"
            for _, run in waiting:
                if run.folder.state == "queued":
                    run.folder.set_state("stopped", reason, command=run.command)
            raise

    def _gpus_for(self, run: SweepRun) -> list[str] | None:
        """Free cards for a run, taken; None while there are too few."""
        if not machine.uses_gpus(run.trainer, len(self._gpus)):
            return []
        wanted = machine.num_devices(run.trainer)
        if wanted is None:  # a fair share
            wanted = max(1, len(self._gpus) // self.n_jobs)
        if len(self._free_gpus) < wanted:
            return None
        cards, self._free_gpus = self._free_gpus[:wanted], self._free_gpus[wanted:]
        return cards

    def _start(self, number: int, run: SweepRun, cards: list[str], num_waiting: int) -> RunProcess:
        environment = {k: v for k, v in os.environ.items() if k not in (*DISTRIBUTED, *SLURM_TASK)}
        environment["CAPTIONLAB_SWEEP"] = "1"
        mean = sum(self._seconds) / max(1, len(self._seconds))
        environment[PLACE_VARIABLE] = str(SweepPlace(number, self.num_runs, num_waiting, mean))
        port = self._ports.pop()
        output = None
        if self._num_sharing > 1:
            num_processes = max(1, machine.num_devices(run.trainer) or 1)
            threads = max(1, num_cores() // (self._num_sharing * num_processes))
            environment.setdefault("OMP_NUM_THREADS", str(threads))
            # A run that began alone resumes with the threads it had: more than its share. They must
            # not wait for each other by spinning on cores that other runs need.
            environment.setdefault("OMP_WAIT_POLICY", "passive")
        if self.n_jobs > 1:
            environment["MASTER_PORT"] = str(port)
            if self._gpus:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
            output = run.folder.output_path.open("ab")
        self.say(number, run, "" if output is None else f": started, see {run.folder.path}")
        popen = subprocess.Popen(
            run.command,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which stops its runs
            preexec_fn=die_with_parent,
        )
        if output is not None:
            output.close()
        return RunProcess(number, run, popen, cards, port, time.monotonic())

    def release(self, process: RunProcess) -> None:
        """Take back what a process had that has ended; its run failed if it does not say how."""
        self._free_gpus += process.gpus
        self._ports.append(process.port)
        code, folder = process.popen.returncode, process.run.folder
        with suppress(ProcessLookupError):  # what it left running
            os.killpg(process.popen.pid, signal.SIGKILL)
        if folder.condition in ("queued", "dead"):  # not one that another sweep trains
            name = signal_name(-code if code < 0 else code - 128)  # before it knew its folder
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            if name is not None:
                folder.set_state("stopped", f"stopped by {name}", command=process.run.command)
            else:
                reason = f"the process of the run ended with {how}"
                folder.set_state("failed", reason, command=process.run.command)

    def _end(self, process: RunProcess) -> None:
        self.release(process)
        code, folder = process.popen.returncode, process.run.folder
        if folder.state == "complete":
            self._seconds.append(time.monotonic() - process.began)
        if self.n_jobs > 1:
            self.say(process.number, process.run, f": {folder.state}{_last_words(folder)}")
        elif code < 0 and sys.stdout.isatty():
            print("\x1b[?25h", end="", flush=True)  # the cursor, which it hid beside its bars


def _last_words(folder: RunFolder) -> str:
    """The last line of what a run printed, after a colon; nothing if there is none."""
    with suppress(OSError), folder.output_path.open("rb") as output:
        output.seek(max(0, output.seek(0, os.SEEK_END) - _LONGEST_LINE))
        lines = output.read().decode(errors="replace").split("\n")
        if last := next((line for line in reversed(lines) if line.strip()), ""):
            return f": {printable(last)}"
    return ""


def _first_of_each_encoder(runs: dict[int, SweepRun]) -> list[tuple[int, SweepRun]]:
    """Runs in an order in which those that run at a time do not wait for the same features."""
    seen: Counter[str] = Counter()

    def turn(item: tuple[int, SweepRun]) -> int:
        config = item[1].config
        key = repr((config.encoder, config.data))
        seen[key] += 1
        return seen[key]

    return sorted(runs.items(), key=turn)


def stop(processes: Sequence[RunProcess]) -> None:
    """End runs: each is asked to, then made to."""
    for process in processes:
        process.popen.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
        if process.run.folder.condition in ("queued", "dead"):
            process.run.folder.set_state("stopped", "stopped", command=process.run.command)
