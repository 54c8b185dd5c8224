"""`hydra/launcher=slurm`: the runs of a sweep as an array of a SLURM cluster."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captionlab.errors import ConfigError, RunError
from captionlab.files import write_atomically, write_json
from captionlab.options import Count, Natural
from captionlab.runs.folder import remove_empty
from captionlab.runs.launching import cluster
from captionlab.runs.launching.launcher import SweepLauncher, SweepRun
from captionlab.runs.launching.machine import num_devices
from captionlab.runs.launching.script import array_script

_POLL_SECONDS = 3.0
_SILENCE_SECONDS = 600.0  # of the cluster, and of all runs
_AGAIN = "run the same command again when the cluster is back"
_RETRIED = ("PREEMPTED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "REQUEUED")


@dataclass
class _ArrayTask:
    """A run in the queue, or just out of it."""

    number: int
    run: SweepRun
    script: Path
    job: str
    shown: str = ""
    absent: int = 0  # polls since it was last in the queue
    restarts: int = 0


class SlurmLauncher(SweepLauncher):
    """Submits runs as one array, and waits for them or leaves.

    Args:
        partition: the cluster's default if null.
        account: that pays.
        qos: quality of service.
        time: of one run, as sbatch has it, such as 90 (minutes) or 2-12:00:00; one that needs more
            is requeued and resumes.
        gpus: of each node.
        cpus: of each process.
        memory: of each node, such as 16G.
        max_parallel: runs at a time.
        max_requeues: of one run, after time-outs, preemption and node failures.
        warn_seconds: before the time is over, a run is stopped and requeued.
        wait: whether to wait for the results; if not, the same command collects them later.
        setup: lines of shell before each run.
        options: more options of sbatch, as on its command line.
    """

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time: int | str = "24:00:00",
        gpus: Natural = 0,
        cpus: Count = 1,
        memory: str | None = None,
        max_parallel: Count | None = None,
        max_requeues: Natural = 20,
        warn_seconds: Count = 60,
        wait: bool = True,
        setup: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.partition, self.account, self.qos = partition, account, qos
        self.time, self.gpus, self.cpus, self.memory = time, gpus, cpus, memory
        self.max_parallel, self.max_requeues = max_parallel, max_requeues
        self.warn_seconds, self.wait = warn_seconds, wait
        self.lines, self.options = list(setup), list(options)
        self.check_own_options(setup=self.lines)

    def check_machine(self, runs: Sequence[SweepRun]) -> None:
        cluster.require_slurm()
        for run in runs:
            wanted = num_devices(run.trainer)
            if run.trainer["accelerator"] in ("gpu", "cuda") and not self.gpus:
                raise ConfigError(
                    "trainer.accelerator=gpu needs hydra.launcher.gpus, found 0; say how many."
                )
            if self.gpus and wanted is not None and wanted > self.gpus:
                raise ConfigError(
                    f"trainer.devices={wanted} is more than hydra.launcher.gpus={self.gpus}; "
                    "raise the latter or lower the former."
                )

    def run_all(self, runs: dict[int, SweepRun]) -> None:
        queued = cluster.queued_array_tasks()
        before = {number: run.folder.read_cluster_job() for number, run in runs.items()}
        if queued is None:
            if any(before.values()):  # submitting them again would train each of them twice
                raise RunError(f"squeue gives no answer about the runs in the queue; {_AGAIN}.")
            queued = {}
        elements, new = [], {}
        for number, run in runs.items():
            known = before[number]
            if known is not None and known["job"] in queued:  # submitted before
                elements.append(_ArrayTask(number, run, Path(known["script"]), known["job"]))
            else:
                new[number] = run
        elements += self._submit(new)
        if self.wait:
            self._wait(elements)
            return
        jobs = sorted({element.job.split("_")[0] for element in elements})
        print(
            f"submitted {len(new)} runs as SLURM job {', '.join(jobs)}; run the same command "
            "again to collect the results"
        )

    def _submit(self, runs: dict[int, SweepRun]) -> list[_ArrayTask]:
        """One array for all runs of as many nodes and processes."""
        shapes: dict[tuple[int, int], dict[int, SweepRun]] = defaultdict(dict)
        for number, run in runs.items():
            per_node = num_devices(run.trainer) or max(1, self.gpus)
            shapes[run.trainer["num_nodes"], per_node][number] = run
        elements: list[_ArrayTask] = []
        for (nodes, per_node), alike in shapes.items():
            script = self._write_script(nodes, per_node, alike)
            before = [(run, run.folder.read_status()) for run in alike.values()]
            for run in alike.values():
                run.folder.set_state("queued", command=run.command)
            try:
                job = cluster.submit(script, alike, self.max_parallel)
            except ConfigError as error:
                shutil.rmtree(script.parent)
                for run, status in before:
                    if status is None:
                        run.folder.status_path.unlink()
                        remove_empty([run.folder.path])
                    else:
                        write_json(run.folder.status_path, status, indent=2)
                remove_empty([script.parent.parent])
                jobs = sorted({element.job.split("_")[0] for element in elements})
                queued = f"SLURM job {', '.join(jobs)} is in the queue"
                raise ConfigError(
                    f"{error} {queued if jobs else 'Nothing was started'}."
                ) from error
            for number, run in alike.items():
                elements.append(_ArrayTask(number, run, script, f"{job}_{number}"))
                _remember(elements[-1])
        return elements

    def _write_script(self, nodes: int, per_node: int, runs: dict[int, SweepRun]) -> Path:
        first = next(iter(runs.values()))
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        folder = (first.folder.path.parent / "slurm" / f"{stamp}-{nodes}x{per_node}").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for number, run in runs.items():  # what the cluster prints is in the run's folder
            run.folder.path.mkdir(parents=True, exist_ok=True)
            link = folder / f"{number}.log"
            link.unlink(missing_ok=True)
            link.symlink_to(run.folder.path.resolve() / "slurm.log")
        directives = {
            "job-name": f"captionlab-{first.folder.path.parent.name}",
            "output": f"{folder}/%a.log",
            "open-mode": "append",
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.time,
            "nodes": nodes,
            "ntasks-per-node": per_node,
            "cpus-per-task": self.cpus,
            "gpus-per-node": self.gpus or None,
            "mem": self.memory,
            "signal": f"B:USR1@{self.warn_seconds}",
        }
        content = array_script(
            directives=directives,
            options=["--requeue", *self.options],
            setup=self.lines,
            step=[f"--cpus-per-task={self.cpus}", "--kill-on-bad-exit=1"],
            commands={number: run.command for number, run in runs.items()},
            environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self.cpus))},
            max_requeues=self.max_requeues,
        )
        script = folder / "array.sh"
        write_atomically(script, content)
        return script

    def _wait(self, elements: list[_ArrayTask]) -> None:
        """Until every run has ended, whatever the cluster does."""
        jobs = sorted({element.job.split("_")[0] for element in elements})
        print(f"waiting for SLURM job {', '.join(jobs)}; Ctrl-C leaves it in the queue", flush=True)
        answered = time.monotonic()
        while elements:
            queued = cluster.queued_array_tasks()
            if queued is not None:
                answered = time.monotonic()
                elements = [e for e in elements if not self._has_ended(e, queued)]
            elif any(element.run.folder.condition == "running" for element in elements):
                answered = time.monotonic()
            elif time.monotonic() - answered > _SILENCE_SECONDS:
                raise RunError(f"squeue gives no answer and no run has a heartbeat; {_AGAIN}.")
            time.sleep(_POLL_SECONDS if elements else 0)

    def _has_ended(self, element: _ArrayTask, queued: dict[str, str]) -> bool:
        folder = element.run.folder
        state = folder.state
        if state not in ("complete", "failed"):
            if element.job in queued:
                element.absent = 0
                self._show(element, queued[element.job])
                return False
            element.absent += 1
            if element.absent < 2:  # a requeue may lie between two looks
                return False
            outcome = cluster.task_end(element.job)
            if not outcome.state and folder.condition == "running":
                return False
            if self._resubmit(element, outcome):
                return False
            self._record(element, outcome)
        self._show(element, folder.state or "")
        return True

    def _resubmit(self, element: _ArrayTask, outcome: cluster.TaskEnd) -> bool:
        """Submit again what the cluster cancelled instead of requeueing."""
        element.restarts += outcome.restarts
        if outcome.state not in _RETRIED or element.restarts >= self.max_requeues:
            return False
        element.restarts += 1
        element.run.folder.set_state("queued", command=element.run.command)
        job = cluster.submit(element.script, [element.number], None)
        element.job, element.absent = f"{job}_{element.number}", 0
        _remember(element)
        self._show(element, f"{outcome.state.lower()}: submitted again as {element.job}")
        return True

    def _record(self, element: _ArrayTask, outcome: cluster.TaskEnd) -> None:
        """Write what the run itself could not."""
        folder, word = element.run.folder, outcome.state.lower().replace("_", " ")
        if outcome.state == "CANCELLED":
            folder.set_state("stopped", "cancelled on the cluster", command=element.run.command)
            return
        if outcome.state == "FAILED" and folder.state == "stopped":
            return
        how = f"{word}, exit {outcome.exit_code}" if word else "it is no longer known"
        reason = f"SLURM job {element.job} ended ({how}); see {folder.path}/slurm.log"
        folder.set_state("failed", reason, command=element.run.command)

    def _show(self, element: _ArrayTask, text: str) -> None:
        if text != element.shown:
            element.shown = text
            self.say(element.number, element.run, f": {text}")


def _remember(element: _ArrayTask) -> None:
    job = {"job": element.job, "script": str(element.script)}
    write_json(element.run.folder.cluster_path, job)
