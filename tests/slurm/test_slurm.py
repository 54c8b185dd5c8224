"""Sweeps on a real SLURM of one node; no accounting, so no `sacct`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import with_defaults

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, str(ROOT / "run.py")]
SMALL = [
    "data.num_train=12",
    "data.num_val=4",
    "data.num_test=4",
    "data.num_workers=0",
    "data.image_size=32",
    "encoder=resnet18",
    "encoder.image_size=32",
    "callbacks=none",
]
SECONDS = 1200
ENDLESS = "trainer.max_epochs=1000000"  # for a run that the test ends, however fast the machine

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="no SLURM on this machine"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where data and encoded images are kept; SLURM's commands find the cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    script = [str(Path(__file__).with_name("cluster.sh"))]
    subprocess.run(["bash", *script, "up", str(folder / "state")], check=True, timeout=120)
    os.environ["SLURM_CONF"] = str(folder / "state" / "slurm.conf")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield folder
    subprocess.run(["bash", *script, "down", str(folder / "state")], check=True, timeout=120)
    del os.environ["SLURM_CONF"]


def sweep(cluster: Path, name: str, *overrides: str) -> list[str]:
    places = [f"runs_dir={cluster}/runs", f"cache_dir={cluster}/data", f"name={name}"]
    launcher = ["hydra/launcher=slurm", "hydra.launcher.time=10"]
    return [*RUN, "-m", *places, *with_defaults([*SMALL, *launcher], overrides)]


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


def statuses(cluster: Path, name: str) -> list[dict[str, Any]]:
    paths = (cluster / "runs" / name).glob("*/status.json")
    return [status_of(path.parent) for path in sorted(paths)]


def wait_for_epochs(cluster: Path, name: str, num_epochs: int = 2) -> Path:
    """Until a run of the sweep has trained that long; gives its folder."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for curves in (cluster / "runs" / name).glob("*/metrics.csv"):
            if len(curves.read_text().splitlines()) > num_epochs:  # and a header
                return curves.parent
        time.sleep(0.05)
    raise AssertionError(statuses(cluster, name))


def wait_for_line(log: Path, line: str, count: int) -> None:
    """Until a log has a line so many times."""
    deadline = time.monotonic() + SECONDS
    while log.read_text().count(line) < count:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def status_of(folder: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return status


def job_of(folder: Path) -> str:
    return str(json.loads((folder / "slurm.json").read_text())["job"])


def test_an_array_of_four_with_failing_elements(cluster: Path) -> None:
    bad = cluster / "bad.pth"
    bad.write_text("no weights")
    weights = f"encoder.weights=none,{bad}"
    done = finish(sweep(cluster, "four", "seed=0,1", weights, "trainer.max_epochs=1"))
    assert done.returncode == 1
    assert "2 of 4 runs failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    states = [status["state"] for status in statuses(cluster, "four")]
    assert sorted(states) == ["complete", "complete", "failed", "failed"]
    logs = list((cluster / "runs" / "four").glob("*/slurm.log"))
    assert len(logs) == 4
    stores = [path for path in (cluster / "data" / "features").iterdir() if path.is_dir()]
    assert sum("encoding 20 images" in log.read_text() for log in logs) >= len(stores)
    built = [log for log in logs if "another process encodes" not in log.read_text()]
    assert built


def test_a_cancelled_element_is_said_and_the_other_finishes(cluster: Path) -> None:
    waiting = start(sweep(cluster, "cancel", f"{ENDLESS},2"))
    folder = wait_for_epochs(cluster, "cancel", 3)  # the endless one
    subprocess.run(["scancel", job_of(folder)], check=True)
    output, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 1
    assert "1 of 2 runs failed" in output
    assert "run the same command again to resume" in output
    assert sorted(str(s["state"]) for s in statuses(cluster, "cancel")) == ["complete", "stopped"]


def test_submit_and_leave_then_collect(cluster: Path) -> None:
    command = sweep(cluster, "leave", "seed=0", "trainer.max_epochs=1")
    left = finish([*command, "hydra.launcher.wait=false"])
    assert left.returncode == 0, left.stdout + left.stderr
    assert "submitted 1 runs as SLURM job" in left.stdout
    again = finish(command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "CIDEr-D" in again.stdout
    folders = list((cluster / "runs" / "leave" / "slurm").iterdir())
    assert len(folders) == 1, "submitted once"


@pytest.mark.parametrize("partition", ["main", "spot"])
def test_preempted_runs_resume(cluster: Path, partition: str) -> None:
    """Requeued by the cluster (main), or cancelled by it and submitted again (spot)."""
    options = ["hydra.launcher.cpus=4", f"hydra.launcher.partition={partition}"]
    waiting = start(sweep(cluster, partition, "seed=0", "trainer.max_epochs=60", *options))
    folder = wait_for_epochs(cluster, partition)
    # A fast machine would end it before the cluster acts; SLURM continues what it stops.
    os.kill(status_of(folder)["pid"], signal.SIGSTOP)
    subprocess.run(["srun", "--partition=high", "--cpus-per-task=4", "sleep", "1"], check=True)
    output, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0, output
    assert "resuming after" in (folder / "slurm.log").read_text()
    assert status_of(folder)["state"] == "complete"


def test_a_run_that_needs_more_time_is_requeued_each_time(cluster: Path) -> None:
    """Its script requeues it, by the command that a user would."""
    options = ["hydra.launcher.time=1", "hydra.launcher.warn_seconds=25"]
    waiting = start(sweep(cluster, "time", "seed=0", ENDLESS, *options))
    folder = wait_for_epochs(cluster, "time")
    log, requeued = folder / "slurm.log", "the time is nearly over: requeued"
    before = log.read_text().count(requeued)  # a slow machine's, before it had trained an epoch
    wait_for_line(log, requeued, before + 2)
    # Time enough from now on, however slow the machine is.
    subprocess.run(["scontrol", "update", f"JobId={job_of(folder)}", "TimeLimit=30"], check=True)
    wait_for_line(log, "resuming after", 2)
    assert waiting.poll() is None
    subprocess.run(["scancel", job_of(folder)], check=True)
    output, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 1
    assert "cancelled on the cluster; run the same command again to resume" in output


def test_a_killed_process_is_seen(cluster: Path) -> None:
    waiting = start(sweep(cluster, "killed", "seed=0", ENDLESS))
    folder = wait_for_epochs(cluster, "killed")
    os.kill(status_of(folder)["pid"], signal.SIGKILL)
    output, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 1
    assert "ended (failed, exit" in output


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.launcher.partition=nowhere"], "error: sbatch refused the sweep"),
        (["hydra.launcher.gpus=1", "trainer.devices=2"], "more than hydra.launcher.gpus=1"),
        (["trainer.accelerator=gpu"], "needs hydra.launcher.gpus"),
        (["hydra.launcher.cpus=0"], "hydra.launcher.cpus must be"),
    ],
)
def test_a_mistake_is_one_line(cluster: Path, overrides: list[str], message: str) -> None:
    done = finish(sweep(cluster, "mistake", "seed=0", *overrides))
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert statuses(cluster, "mistake") == []


def batch(cluster: Path, name: str, *options: str, command: str) -> str:
    """Submit a plain script, wait for it, and give what it printed."""
    output = cluster / f"{name}.txt"
    line = ["sbatch", "--wait", "--quiet", f"--output={output}", *options, f"--wrap={command}"]
    subprocess.run(line, timeout=SECONDS, check=False, cwd=ROOT)
    return output.read_text()


def test_a_batch_script_without_srun_is_refused(cluster: Path) -> None:
    places = f"runs_dir={cluster}/runs cache_dir={cluster}/data name=plain"
    two = f"{' '.join([*RUN, *SMALL])} {places} trainer.devices=2 trainer.accelerator=cpu"
    output = batch(cluster, "plain", "--ntasks=2", command=two)
    assert "start the command by srun" in output
    assert "Traceback" not in output


def test_a_farm_of_tasks_trains_a_run_each(cluster: Path) -> None:
    places = f"runs_dir={cluster}/runs cache_dir={cluster}/data name=farm"
    one = f"{' '.join([*RUN, *SMALL])} {places} trainer.max_epochs=1 seed=$SLURM_PROCID"
    output = batch(cluster, "farm", "--ntasks=2", command=f"srun bash -c '{one}'")
    assert "Traceback" not in output
    assert [status["state"] for status in statuses(cluster, "farm")] == ["complete"] * 2


def test_two_tasks_train_one_run(cluster: Path) -> None:
    devices = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
    done = finish(sweep(cluster, "ddp", "seed=0", *devices))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [status["state"] for status in statuses(cluster, "ddp")] == ["complete"]
