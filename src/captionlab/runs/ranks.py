"""Which process of a run this one is, by the rules by which Lightning finds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from captionlab.devices import num_devices
from captionlab.errors import ConfigError

_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs in which Lightning starts the ranks


def is_leader(trainer: Mapping[str, Any]) -> bool:
    """Whether this process is the first of its run; only that one writes into the folder.

    Args:
        trainer: options of the run's Trainer.

    Raises:
        ConfigError: if SLURM started another number of processes than the run has.
    """
    return rank(trainer) == 0


def rank(trainer: Mapping[str, Any]) -> int:
    """The number of this process among those of its run, from 0 on.

    A run of one process is its own leader whatever surrounds it: many such runs may be the tasks
    of one SLURM step, each with a SLURM_PROCID of its own. A single task starts the processes of
    its machine itself.

    Args:
        trainer: options of the run's Trainer.

    Raises:
        ConfigError: if SLURM started another number of processes than the run has.
    """
    per_node = num_devices(trainer["devices"], trainer["accelerator"])
    environment = os.environ
    num_processes = per_node * trainer["num_nodes"]
    if num_processes == 1:
        return 0
    if "TORCHELASTIC_RUN_ID" in environment:  # torchrun
        return int(environment["RANK"])
    is_step = "SLURM_NTASKS" in environment and (
        environment.get("SLURM_JOB_NAME") not in _INTERACTIVE
    )
    num_tasks = int(environment.get("SLURM_NTASKS", "1"))
    if is_step and max(num_tasks, trainer["num_nodes"]) > 1:
        if num_tasks != num_processes:
            raise ConfigError(
                f"trainer.devices={per_node} and trainer.num_nodes={trainer['num_nodes']} need "
                f"{num_processes} SLURM tasks, found {num_tasks}; start them with srun "
                f"--ntasks-per-node={per_node}, or name the job interactive to start them here."
            )
        return int(environment["SLURM_PROCID"])
    node = int(environment.get("NODE_RANK", environment.get("GROUP_RANK", "0")))
    return node * per_node + int(environment.get("LOCAL_RANK", "0"))
