"""Which process of a run this one is, whoever started it."""

from __future__ import annotations

import pytest
import torch

from captionlab.errors import ConfigError
from captionlab.runs.ranks import is_leader, rank

SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "2"}
NAMES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "TORCHELASTIC_RUN_ID", "SLURM_PROCID")
NAMES += ("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")

# Who started it: devices, machines, environment, rank.
STARTS = {
    "by hand": (1, 1, {}, 0),
    "by hand, the first of two": (2, 1, {}, 0),
    "by Lightning, the second of two": (2, 1, {"LOCAL_RANK": "1", "NODE_RANK": "0"}, 1),
    "by hand, on the second machine": (2, 2, {"LOCAL_RANK": "1", "NODE_RANK": "1"}, 3),
    "by torchrun": (
        2,
        2,
        {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"},
        3,
    ),
    "by torchrun in a SLURM step": (
        4,
        1,
        {**SLURM, "SLURM_PROCID": "0", "TORCHELASTIC_RUN_ID": "x", "RANK": "2", "LOCAL_RANK": "2"},
        2,
    ),
    "by srun, as a task of a farm": (1, 1, {**SLURM, "SLURM_PROCID": "1"}, 0),
    "by srun, the second of two": (2, 1, {**SLURM, "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, 1),
    "by srun, one task on each of two machines": (1, 2, {**SLURM, "SLURM_PROCID": "1"}, 1),
    "by Lightning in a single task": (2, 1, {**SLURM, "SLURM_NTASKS": "1", "LOCAL_RANK": "1"}, 1),
    "by Lightning in an interactive job": (
        2,
        1,
        {**SLURM, "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0", "LOCAL_RANK": "1"},
        1,
    ),
    "by hand in an interactive job": (
        2,
        1,
        {**SLURM, "SLURM_JOB_NAME": "interactive", "SLURM_PROCID": "0"},
        0,
    ),
}


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("start", STARTS)
def test_a_process_knows_its_rank(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    devices, num_nodes, environment, expected = STARTS[start]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trainer = {"devices": devices, "num_nodes": num_nodes, "accelerator": "cpu"}
    assert rank(trainer) == expected
    assert is_leader(trainer) == (expected == 0)


@pytest.mark.parametrize(("num_tasks", "num_nodes"), [("4", 1), ("1", 2)])
def test_another_number_of_slurm_tasks_is_refused(
    num_tasks: str, num_nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SLURM, "SLURM_NTASKS": num_tasks, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"SLURM tasks, found {num_tasks}; start them"):
        is_leader({"devices": 2, "num_nodes": num_nodes, "accelerator": "cpu"})


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(1, 1), ("auto", 2), (-1, 2), ([0], 1), ([0, 2], 2), ("0,2", 2), ("0,", 1), ("2", 2)],
)
def test_devices_are_counted_as_lightning_counts_them(
    devices: int | str | list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer = {"devices": devices, "num_nodes": 1, "accelerator": "gpu"}
    assert is_leader(trainer) == (expected == 1)
