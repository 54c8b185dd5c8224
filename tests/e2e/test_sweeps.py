"""Sweeps on one machine: several runs at a time, signals, and what cannot work."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captionlab.run_files import RunFiles
from tests.support.processes import run_command, with_defaults

ROOT = Path(__file__).parents[2]
SMALL = [
    "data.num_train=12",
    "data.num_val=4",
    "data.num_test=4",
    "data.num_workers=0",
    "data.image_size=32",
    "encoder=resnet18",
    "encoder.image_size=32",
    "callbacks=none",
    "trainer.max_epochs=1",
]
LONG = "trainer.max_epochs=2000"


def command(folder: Path, *arguments: str) -> list[str]:
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/data"]
    return [sys.executable, str(ROOT / "run.py"), *with_defaults([*places, *SMALL], arguments)]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command(command(folder, *arguments), **environment)


def folders(folder: Path) -> list[RunFiles]:
    paths = (folder / "runs" / "shapes").glob("*/status.json")
    return sorted((RunFiles(path.parent) for path in paths), key=lambda files: files.path)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_epochs(folder: Path, num_runs: int) -> None:
    """Until so many runs have trained an epoch and saved it."""
    for _ in range(600):
        if sum(files.last_checkpoint.exists() for files in folders(folder)) >= num_runs:
            return
        time.sleep(0.5)
    raise AssertionError([files.read_status() for files in folders(folder)])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_two_runs_at_a_time_one_of_which_fails(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_text("no weights")
    done = run(tmp_path, "-m", "n_jobs=2", f"encoder.weights=none,{bad}", "seed=0,1")
    assert done.returncode == 1
    assert "2 of 4 runs failed" in done.stderr
    assert done.stdout.count(": complete") == 2
    assert [files.state for files in folders(tmp_path)].count("complete") == 2
    for files in folders(tmp_path):
        assert files.output_path.stat().st_size > 0
        assert "n_jobs" not in " ".join(files.read_status()["command"])  # type: ignore[index]
    again = run(tmp_path, "-m", "n_jobs=2", "retry=none", f"encoder.weights=none,{bad}", "seed=0,1")
    assert again.returncode == 1
    assert again.stdout.count("loaded from disk") == 2
    assert again.stdout.count("failed before (retry=none)") == 2


def test_repeats_are_the_seeds_of_every_combination(tmp_path: Path) -> None:
    mine = tmp_path / "conf" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nrepeats: 2\n")
    options = "--config-dir", str(mine.parents[1]), "experiment=mine"
    done = run(tmp_path, "-m", *options, "decoder=lstm", "++seed=4")
    assert done.returncode == 0, done.stdout + done.stderr
    names = [files.path.name for files in folders(tmp_path)]
    assert [name.split("-")[-2] for name in names] == ["s4", "s5"]
    again = run(tmp_path, "-m", "decoder=lstm", "seed=4,5")
    assert again.stdout.count("loaded from disk") == 2


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_sweep_that_is_stopped_stops_its_runs_in_one_line(
    tmp_path: Path, number: signal.Signals, name: str
) -> None:
    sweep = start(tmp_path, "-m", "n_jobs=2", "seed=0,1,2", LONG)
    wait_for_epochs(tmp_path, 2)
    pids = [files.read_status()["pid"] for files in folders(tmp_path)]  # type: ignore[index]
    sweep.send_signal(number)
    _, error = sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + number
    assert error.strip() == f"stopped by {name}; run the same command again to resume"
    assert [files.condition for files in folders(tmp_path)] == ["stopped"] * 3
    assert not any(is_running(pid) for pid in pids)
    assert not list(tmp_path.glob("runs/*/*/.owner"))
    assert not list(tmp_path.glob("runs/**/*.tmp"))


def test_a_sweep_that_is_killed_leaves_no_run_and_says_dead(tmp_path: Path) -> None:
    sweep = start(tmp_path, "-m", "n_jobs=2", "seed=0,1,2", LONG)
    wait_for_epochs(tmp_path, 2)
    pids = [files.read_status()["pid"] for files in folders(tmp_path)]  # type: ignore[index]
    sweep.kill()
    sweep.communicate(timeout=60)
    time.sleep(1)
    assert not any(is_running(pid) for pid in pids)
    assert [files.condition for files in folders(tmp_path)] == ["dead"] * 3
    again = start(tmp_path, "-m", "n_jobs=2", "seed=0,1,2", LONG)
    for _ in range(200):
        logs = [
            files.log_path.read_text() for files in folders(tmp_path) if files.log_path.exists()
        ]
        if sum("resuming after" in log for log in logs) >= 2:
            break
        time.sleep(0.5)
    again.terminate()
    again.communicate(timeout=60)
    assert sum("resuming after" in log for log in logs) >= 2


def test_a_run_that_is_stopped_says_how_to_resume(tmp_path: Path) -> None:
    single = start(tmp_path, LONG)
    wait_for_epochs(tmp_path, 1)
    single.send_signal(signal.SIGINT)
    _, error = single.communicate(timeout=60)
    assert single.returncode == 130
    assert "stopped by Ctrl-C; run the same command again to resume" in error
    assert "Traceback" not in error
    (files,) = folders(tmp_path)
    assert files.condition == "stopped"


def test_the_flag_may_stand_anywhere(tmp_path: Path) -> None:
    done = run(tmp_path, "decoder=gru", "-m", "decoder.dropout=0.1,7")
    assert done.returncode == 1
    assert re.search(r"error: .*decoder\.dropout must be", done.stderr)


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "a sweep over nothing": (("-m", "seed=range(0)"), "error: seed=range(0) has no values"),
    "no SLURM": (("-m", "hydra/launcher=slurm", "seed=0,1"), "needs SLURM, but sbatch is not on"),
    "repeats of one run": (("repeats=3",), "error: repeats=3 works only in a sweep; add -m"),
    "repeats": (("-m", "repeats=0"), "repeats must be a whole number of at least 1"),
    "jobs": (("-m", "n_jobs=0", "seed=0,1"), "n_jobs must be a whole number of at least 1"),
    "launcher": (
        ("-m", "hydra/launcher=pbs", "seed=0,1"),
        "hydra/launcher=pbs is unknown; it can be basic, local, slurm",
    ),
    "devices": (("-m", "trainer.devices=99", "seed=0,1"), "error: trainer.devices=99"),
    "devices of one run": (("trainer.devices=99",), "error: trainer.devices=99"),
    "folder": (("runs_dir={file}/runs",), "cannot be written (Not a directory); set runs_dir="),
    "folder of a sweep": (("-m", "runs_dir={file}/runs", "seed=0,1"), "cannot be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_before_anything_starts(tmp_path: Path, case: str) -> None:
    arguments, message = BAD[case]
    (tmp_path / "file").touch()
    done = run(tmp_path, *(a.format(file=tmp_path / "file") for a in arguments), PATH="/nowhere")
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert message in output
    assert "Traceback" not in output
    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content"), [("status.json", "[]"), ("result.json", "{}"), ("result.json", "")]
)
def test_damaged_files_of_a_run_are_one_line(tmp_path: Path, name: str, content: str) -> None:
    assert run(tmp_path).returncode == 0
    (files,) = folders(tmp_path)
    other = run(tmp_path, "seed=5", f"hydra.run.dir={files.path}")
    assert "was made by another configuration or version (it differs in seed)" in other.stdout
    (files.path / name).write_text(content)
    for arguments in ([], ["-m"]):
        done = run(tmp_path, *arguments)
        assert done.returncode == 1
        assert f"{name}" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    assert json.loads(files.manifest_path.read_text())["identity"]
