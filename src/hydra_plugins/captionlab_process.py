"""Hydra launcher: every job of a sweep in a process of its own.

Jobs cannot leak memory, seeds or environment into each other, one that dies does not take the
others along, and Lightning's ddp starts its ranks by running the job's own command line again,
which under `-m` would run the whole sweep once per rank (pytorch-lightning #11300, hydra #2070).
"""

# No `from __future__ import annotations`: Hydra reads the dataclass's annotations.
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from captionlab.config.checks import check
from captionlab.errors import CaptionLabError
from captionlab.runs.folder import RunFolder

# Of an earlier or surrounding distributed job: they would make a job a rank of it.
_DISTRIBUTED = (
    "LOCAL_RANK",
    "RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PL_GLOBAL_SEED",
)
_OF_THE_SWEEP = ("hydra.mode", "hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher")


@dataclass
class ProcessLauncherConf:
    """Schema of `hydra/launcher=process`."""

    _target_: str = "hydra_plugins.captionlab_process.ProcessLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="process_schema", node=ProcessLauncherConf, provider="captionlab"
)


class ProcessLauncher(Launcher):
    """Runs each job by the command that started the sweep, one after another."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        jobs = [self._compose(list(overrides)) for overrides in job_overrides]
        returns = []
        for number, (overrides, job) in enumerate(zip(job_overrides, jobs, strict=True), 1):
            folder = RunFolder(Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir)
            label = " ".join(overrides)
            if folder.state == "complete":
                print(f"[{number}/{len(jobs)}] {label}: answered from disk, {folder.path}")
            else:
                print(f"[{number}/{len(jobs)}] {label}", flush=True)
                self._run(overrides, folder)
            returns.append(self._returned(job, list(overrides), folder))
        return returns

    def _compose(self, overrides: list[str]) -> DictConfig:
        """The job's configuration, checked; a mistake stops the sweep before its first job."""
        job = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = 0
        try:
            check(job)
        except CaptionLabError as error:
            sys.exit(f"error: {' '.join(overrides)}: {error}")
        return job

    def _run(self, overrides: Sequence[str], folder: RunFolder) -> None:
        command = [*_entry(), *_config_flags(), *overrides]
        command += [o for o in self.config.hydra.overrides.hydra if not _is_of_the_sweep(o)]
        command += ["hydra.mode=RUN", "hydra/sweeper=basic"]
        environment = {k: v for k, v in os.environ.items() if k not in _DISTRIBUTED}
        environment["CAPTIONLAB_SWEEP"] = "1"
        folder.set_state("queued")
        process = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C reaches the job too: let it write its status
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        if code != 0 and folder.state != "failed":
            folder.set_state("failed", f"the process of the run ended with exit status {code}")

    def _returned(self, job: DictConfig, overrides: list[str], folder: RunFolder) -> JobReturn:
        result = folder.read_result()
        best = None if result is None else result.best_validation_score
        returned = JobReturn(
            overrides=overrides,
            cfg=job,
            hydra_cfg=job,
            working_dir=str(folder.path),
            task_name=job.hydra.job.name,
            status=JobStatus.COMPLETED,  # of the launcher's work; status.json tells the run's
            _return_value=float("nan") if best is None else best,
        )
        self.context.callbacks.on_job_end(config=job, config_name=None, job_return=returned)
        return returned


def _is_of_the_sweep(override: str) -> bool:
    return override.lstrip("+~").startswith(_OF_THE_SWEEP)


def _entry() -> list[str]:
    """The command that started this process, without its arguments: a script or a module.

    Lightning's ddp starts its ranks by the same rule.
    """
    spec = sys.modules["__main__"].__spec__
    start = [sys.argv[0]] if spec is None else ["-m", spec.name]
    subcommand = [word for word in sys.argv[1:2] if word == "train"]  # of `captionlab`
    return [sys.executable, *start, *subcommand]


def _config_flags() -> list[str]:
    """The command line's own --config-dir and its like."""
    arguments = get_args_parser().parse_intermixed_args(sys.argv[1:])
    flags = []
    for flag in ("config_dir", "config_path", "config_name"):
        if getattr(arguments, flag) is not None:
            flags += [f"--{flag.replace('_', '-')}", getattr(arguments, flag)]
    return flags


def _die_with_parent() -> None:
    """Linux: a killed sweep leaves no job behind that would hold its run's lock."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
