"""How runs of a sweep are shared out, without starting any."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from captionlab.errors import ConfigError, RunError
from captionlab.options import options_of
from captionlab.run_files import State
from captionlab.runs.folder import RunFolder
from captionlab.runs.launching import cluster, local, machine, slurm
from captionlab.runs.launching.launcher import SweepLauncher, SweepRun
from captionlab.runs.launching.local import LocalLauncher
from captionlab.runs.launching.script import array_script
from captionlab.runs.main import config_loader
from tests.support.configs import CONF


def trainer(devices: object = 1, accelerator: str = "auto", num_nodes: int = 1) -> dict[str, Any]:
    return {"devices": devices, "accelerator": accelerator, "num_nodes": num_nodes}


def sweep_run(folder: Path, **options: Any) -> SweepRun:
    command = ["python", "run.py", f"name='{folder.name}'"]
    label = folder.name
    config = OmegaConf.create({})
    return SweepRun(label, RunFolder(folder), command, trainer(**options), config, [])


@pytest.mark.parametrize(
    ("devices", "number"),
    [(1, 1), ("2", 2), ([0, 3], 2), ("0,3", 2), ("5,", 1), ("auto", None), (-1, None)],
)
def test_devices_are_counted_as_lightning_counts_them(devices: object, number: int | None) -> None:
    assert machine.num_devices(trainer(devices)) == number


def test_more_devices_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "num_cores", lambda: 4)
    machine.check_devices(trainer(4), num_gpus=0)
    machine.check_devices(trainer(8, "cpu"), num_gpus=0)
    machine.check_devices(trainer("auto", "gpu"), num_gpus=1)
    with pytest.raises(ConfigError, match=r"devices=8 is more .* no GPU and 4 CPU cores"):
        machine.check_devices(trainer(8), num_gpus=0)
    with pytest.raises(ConfigError, match=r"devices=2 asks for 2 GPUs, found 1"):
        machine.check_devices(trainer(2), num_gpus=1)


def test_a_batch_script_that_starts_one_process_for_two_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SLURM_STEP_ID", "SLURM_JOB_NAME", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    machine.check_step(trainer(2))
    monkeypatch.setenv("SLURM_NTASKS", "2")
    machine.check_step(trainer(1))
    with pytest.raises(ConfigError, match="start the command by srun"):
        machine.check_step(trainer(2))
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    machine.check_step(trainer(2))
    with pytest.raises(ConfigError, match="start it once"):
        machine.check_step(trainer(2), is_sweep=True)


def test_cards_are_shared_out_and_given_back(tmp_path: Path) -> None:
    launcher = LocalLauncher(n_jobs=2)
    launcher._gpus = ["0", "1", "GPU-c"]
    launcher._free_gpus = list(launcher._gpus)
    two, one = sweep_run(tmp_path / "two", devices=2), sweep_run(tmp_path / "one")
    assert launcher._gpus_for(two) == ["0", "1"]
    assert launcher._gpus_for(two) is None, "it waits for another run"
    assert launcher._gpus_for(one) == ["GPU-c"]
    assert launcher._gpus_for(sweep_run(tmp_path, accelerator="cpu")) == []
    launcher._free_gpus = list(launcher._gpus)
    assert launcher._gpus_for(sweep_run(tmp_path, devices="auto")) == ["0"], "a fair share"


def test_cards_that_are_shared_out_have_no_numbers() -> None:
    machine.check_shared(trainer(2), num_gpus=2)
    machine.check_shared(trainer([0, 1], accelerator="cpu"), num_gpus=0)
    for devices in ([1], "0,1"):
        with pytest.raises(ConfigError, match=r"names GPUs.*CUDA_VISIBLE_DEVICES"):
            machine.check_shared(trainer(devices), num_gpus=2)


def test_what_is_left_of_a_sweep_computes_with_as_many_threads_as_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(local, "num_cores", lambda: 8)
    found = tmp_path / "threads"
    shown = "os.environ['OMP_NUM_THREADS'] + ' ' + os.environ['OMP_WAIT_POLICY']"
    code = f"import os; open({str(found)!r}, 'w').write({shown})"
    last = replace(sweep_run(tmp_path / "last"), command=[sys.executable, "-c", code])
    launcher = LocalLauncher(n_jobs=2)
    launcher._gpus, launcher.num_runs = [], 5  # of which four are loaded from disk
    launcher.run_all({5: last})
    assert found.read_text() == "4 passive"  # one that began with 8 must not spin


def sweep_of(*runs: SweepRun) -> dict[int, SweepRun]:
    return dict(enumerate(runs, 1))


def local_launcher(num_runs: int, n_jobs: int = 1) -> LocalLauncher:
    """On a machine without cards."""
    launcher = LocalLauncher(n_jobs)
    launcher._gpus, launcher.num_runs = [], num_runs
    return launcher


def test_an_interrupted_sweep_leaves_what_another_sweep_did_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, waiting, trained, done = (sweep_run(tmp_path / name) for name in "abcd")

    def interrupt(*_: object) -> None:
        trained.folder.set_state("running")
        done.folder.set_state("complete")
        raise KeyboardInterrupt

    launcher = local_launcher(4)
    monkeypatch.setattr(launcher, "_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launcher.run_all(sweep_of(first, waiting, trained, done))
    states = [run.folder.condition for run in (waiting, trained, done)]
    assert states == ["stopped", "running", "complete"]


def test_a_run_that_another_sweep_completed_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = sweep_run(tmp_path / "a")
    done.folder.set_state("complete")
    launcher = local_launcher(1)
    monkeypatch.setattr(launcher, "_start", lambda *_: sys.exit(done.folder.state))
    with pytest.raises(SystemExit, match="complete"):
        launcher.run_all(sweep_of(done))


@pytest.mark.parametrize("how", ["ends", "is stopped"])
def test_a_process_that_waited_for_another_sweep_does_not_end_its_run(
    tmp_path: Path, how: str
) -> None:
    code = "import sys; sys.exit(1)" if how == "ends" else "import time; time.sleep(60)"
    run = replace(sweep_run(tmp_path / "a"), command=[sys.executable, "-c", code])
    launcher = local_launcher(1)
    launcher.open([])
    run.folder.set_state("running")  # by this process, which is alive
    process = launcher._start(1, run, [], 0)
    if how == "ends":
        process.popen.wait()
        launcher.release(process)
    else:
        local.stop([process])
    assert run.folder.condition == "running"


def test_a_run_whose_process_was_killed_has_failed(tmp_path: Path) -> None:
    code = (
        "import dataclasses, json, os, signal\n"
        "from captionlab.locks import Owner\n"
        "status = {'state': 'running', **dataclasses.asdict(Owner.current())}\n"
        f"with open({str(tmp_path / 'a' / 'status.json')!r}, 'w') as file:\n"
        "    json.dump(status, file)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = replace(sweep_run(tmp_path / "a"), command=[sys.executable, "-c", code])
    run.folder.set_state("queued")
    launcher = local_launcher(1)
    launcher.open([])
    process = launcher._start(1, run, [], 0)
    process.popen.wait()
    launcher.release(process)
    assert run.folder.state == "failed"


def prepared(
    launcher: SweepLauncher, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> tuple[RunFolder, list[str]]:
    """Set up a launcher as `run.py -m` does; the folder and the overrides of its one run."""
    monkeypatch.setattr(sys, "argv", ["run.py", "-m"])
    loader = config_loader(None)
    words = [f"runs_dir={folder}", f"cache_dir={folder}", *overrides]
    config = loader.load_configuration("config", words, RunMode.MULTIRUN)
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher.setup(hydra_context=context, task_function=lambda _: None, config=config)
    return launcher._compose(words, set()).folder, words


def test_a_stopped_sweep_is_refused_where_it_would_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = LocalLauncher()
    folder, words = prepared(launcher, tmp_path, monkeypatch, "trainer.devices=2")
    folder.set_state("stopped")
    monkeypatch.setattr(machine, "gpus", lambda: ["0"])
    monkeypatch.setattr(launcher, "run_all", lambda runs: None)
    with pytest.raises(SystemExit, match="devices=2 asks for 2 GPUs, found 1"):
        launcher.launch([words], 0)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("decoder.hiden_dim=8", r"decoder.hiden_dim=8: .* did you mean decoder\.hidden_dim\?"),
        ("seed=${nowhere}", "Interpolation key 'nowhere' not found"),
    ],
)
def test_mistakes_of_a_sweeper_that_composes_nothing_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    launcher = LocalLauncher()
    _, words = prepared(launcher, tmp_path, monkeypatch)
    with pytest.raises(SystemExit, match=message):
        launcher.launch([[*words, word]], 0)


@pytest.mark.parametrize("state", ["complete", "failed"])
def test_a_sweep_that_is_answered_needs_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    launcher = slurm.SlurmLauncher()
    folder, words = prepared(launcher, tmp_path, monkeypatch, "retry=none")
    folder.set_state(state)
    monkeypatch.setattr(RunFolder, "read_result", lambda self: None)
    monkeypatch.setenv("PATH", "")  # no SLURM
    launcher.launch([words], 0)
    folder.set_state("stopped")
    with pytest.raises(SystemExit, match="sbatch is not on this machine"):
        launcher.launch([words], 0)


def test_ports_are_distinct() -> None:
    assert len(set(machine.free_ports(20))) == 20


def test_the_script_gives_each_element_its_command_as_it_stands(tmp_path: Path) -> None:
    odd = ["echo", "a b", "$HOME", "it's", "[1,2]", "*"]
    script = array_script(
        {"time": "1:00", "account": None, "output": "/a b/it's #1/%a.log"},
        ["--constraint=x"],
        ["cd /"],
        ["--cpus-per-task=2"],
        {3: odd, 7: ["echo", "seven"]},
        {"OMP_NUM_THREADS": "2"},
        max_requeues=1,
    )
    directives = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    output = "--output='/a b/it'\"'\"'s #1/%a.log'"  # sbatch reads quotes as a shell does
    options = ["--time=1:00", output, "--constraint=x"]
    assert directives == [f"#SBATCH {option}" for option in options]
    assert "account" not in script
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/bash\nshift\nexec "$@"\n')
    srun.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for number, expected in ((3, "a b $HOME it's [1,2] *\n"), (7, "seven\n")):
        done = subprocess.run(
            ["bash"],
            input=script,
            env={"PATH": path, "SLURM_ARRAY_TASK_ID": str(number)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == expected


def test_the_file_and_the_page_of_slurm_have_every_option() -> None:
    options = options_of(slurm.SlurmLauncher)
    values = yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text())
    assert list(values) == ["_target_", *options]
    for name, option in options.items():
        assert values[name] == (list(option.default) if option.default == () else option.default)
    page = (CONF.parent / "docs" / "how-to" / "slurm.md").read_text()
    assert [name for name in options if f"`{name}`" not in page] == []


@pytest.fixture
def element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> slurm._ArrayTask:
    """One element that was submitted; the cluster is silent."""
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "queued_array_tasks", lambda: {})
    run = sweep_run(tmp_path / "run")
    run.folder.set_state("queued")
    return slurm._ArrayTask(1, run, tmp_path / "array.sh", "5_1")


def launcher(wait: bool = True) -> slurm.SlurmLauncher:
    launcher = slurm.SlurmLauncher(max_requeues=2, wait=wait)
    launcher.num_runs = 1
    return launcher


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (cluster.TaskEnd("CANCELLED"), "stopped", "cancelled on the cluster"),
        (cluster.TaskEnd("OUT_OF_MEMORY", 0, "0:125"), "failed", "out of memory, exit 0:125"),
        (cluster.TaskEnd("TIMEOUT", 2), "failed", "timeout"),
        (cluster.TaskEnd(""), "failed", "it is no longer known"),
        (cluster.TaskEnd("COMPLETED", 0, "0:0"), "failed", "completed, exit 0:0"),
    ],
)
def test_what_the_run_could_not_write_is_written(
    element: slurm._ArrayTask,
    outcome: cluster.TaskEnd,
    state: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "task_end", lambda job: outcome)
    launcher()._wait([element])
    assert element.run.folder.state == state
    assert reason in element.run.folder.reason


def test_what_the_cluster_cancels_is_submitted_again_but_not_for_ever(
    element: slurm._ArrayTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = list[list[int]]()
    monkeypatch.setattr(cluster, "task_end", lambda job: cluster.TaskEnd("PREEMPTED"))
    monkeypatch.setattr(cluster, "submit", lambda script, array, m: submitted.append(array) or "6")
    launcher()._wait([element])
    assert submitted == [[1], [1]]
    assert element.run.folder.state == "failed"
    assert element.run.folder.read_cluster_job() == {
        "job": "6_1",
        "script": str(element.script),
    }


def test_a_cluster_that_is_silent_is_not_waited_for_without_end(
    element: slurm._ArrayTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "queued_array_tasks", lambda: None)
    monkeypatch.setattr(slurm, "_SILENCE_SECONDS", 0.0)
    with pytest.raises(Exception, match="squeue gives no answer"):
        launcher()._wait([element])


def test_a_silent_cluster_gets_no_run_a_second_time(
    element: slurm._ArrayTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submitted = list[list[int]]()
    monkeypatch.setattr(cluster, "submit", lambda script, array, m: submitted.append(array) or "6")
    monkeypatch.setattr(cluster, "queued_array_tasks", lambda: None)
    slurm._remember(element)
    with pytest.raises(RunError, match=r"squeue gives no answer .* when the cluster is back"):
        launcher(wait=False).run_all(sweep_of(element.run, sweep_run(tmp_path / "new")))
    assert submitted == []
    launcher(wait=False).run_all(sweep_of(sweep_run(tmp_path / "new")))
    assert [list(array) for array in submitted] == [[1]], "nothing of it can be in the queue"


def test_runs_with_different_encoders_start_first(tmp_path: Path) -> None:
    names = ["vgg", "vgg", "resnet", "vgg", "resnet"]
    runs = {
        number: replace(sweep_run(tmp_path), config=OmegaConf.create({"encoder": name, "data": {}}))
        for number, name in enumerate(names, 1)
    }
    assert [number for number, _ in local._first_of_each_encoder(runs)] == [1, 3, 2, 5, 4]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", ""),
        ("\n", ""),
        ("epoch 1\nepoch 2\n\n", ": epoch 2"),
        ("epoch 1\nepoch \x1b[2J", r": epoch \x1b[2J"),
        ("é" * 3000 + "\nend", ": end"),
    ],
)
def test_the_last_words_of_a_run_are_its_last_full_line(
    tmp_path: Path, output: str, words: str
) -> None:
    folder = RunFolder(tmp_path)
    assert local._last_words(folder) == ""
    folder.output_path.write_text(output, encoding="utf-8")
    assert local._last_words(folder) == words


def test_what_was_submitted_before_a_refusal_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(script: Path, array: dict[int, SweepRun], max_parallel: int | None) -> str:
        if script.parent.name.endswith("x8"):
            raise ConfigError("sbatch refused the sweep: too many.")
        return "7"

    monkeypatch.setattr(cluster, "submit", submit)
    runs = {1: sweep_run(tmp_path / "one"), 2: sweep_run(tmp_path / "eight", devices=8)}
    with pytest.raises(ConfigError, match=r"too many\. SLURM job 7 is in the queue\."):
        launcher()._submit(runs)
    assert runs[1].folder.state == "queued"
    assert not runs[2].folder.status_path.exists()
    with pytest.raises(ConfigError, match=r"too many\. Nothing was started\."):
        launcher()._submit({2: runs[2]})
