"""What SLURM's commands say; nothing here needs its accounting (`sacct`)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionlab.errors import ConfigError

_SECONDS = 60  # for an answer


@dataclass(frozen=True)
class TaskEnd:
    """What became of an array task that has left the queue.

    Attributes:
        state: SLURM's word, such as `TIMEOUT`; empty once the cluster has forgotten it.
        restarts: how often it was requeued.
        exit_code: as SLURM prints it, such as `1:0`.
    """

    state: str
    restarts: int = 0
    exit_code: str = ""


def require_slurm() -> None:
    """Refuse a machine without SLURM.

    Raises:
        ConfigError: saying so.
    """
    missing = [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"hydra/launcher=slurm needs SLURM, but {missing[0]} is not on this machine; run on a "
            "login node of the cluster, or use hydra/launcher=local."
        )


def submit(script: Path, array: Iterable[int], max_parallel: int | None) -> str:
    """Submit elements of an array.

    Returns:
        The number of the job.

    Raises:
        ConfigError: with what sbatch said.
    """
    elements = ",".join(map(str, array)) + ("" if max_parallel is None else f"%{max_parallel}")
    done = _call(["sbatch", "--parsable", f"--array={elements}", str(script)])
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        said = (
            lines[-1].removeprefix("sbatch: error: ").removeprefix("Batch job submission failed: ")
        )
        asked = [
            line.removeprefix("#SBATCH ")
            for line in script.read_text(encoding="utf-8").splitlines()
            if re.match(r"#SBATCH --(partition|account|qos|time|gpus|mem|cpus|nodes|ntasks)", line)
        ]
        raise ConfigError(
            f"sbatch refused the sweep: {said} (asked for: {' '.join(asked)}). "
            "The options are hydra.launcher.partition, account, qos, time and so on."
        )
    return done.stdout.strip().split(";")[0]


def queued_array_tasks() -> dict[str, str] | None:
    """State, and reason if waiting, by array task such as `12_3`, of this user's jobs.

    None if the cluster gives no answer.
    """
    done = _call(["squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r"])
    if done.returncode != 0:
        return None
    elements = {}
    for line in done.stdout.splitlines():
        element, state, reason = line.split("|", 2)
        is_plain = state != "PENDING" or reason in ("None", "Resources", "Priority")
        elements[element] = state.lower() if is_plain else f"{state.lower()} ({reason})"
    return elements


def task_end(element: str) -> TaskEnd:
    """What became of an array task that has left the queue."""
    done = _call(["scontrol", "--oneliner", "show", "job", element])
    fields = dict(re.findall(r"(\w+)=(\S*)", done.stdout))
    if done.returncode != 0 or "JobState" not in fields:
        return TaskEnd("")
    return TaskEnd(fields["JobState"], int(fields.get("Restarts", "0")), fields.get("ExitCode", ""))


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(command), 1, "", str(error))
