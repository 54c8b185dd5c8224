"""The cores, cards and ports of this machine, shared out among runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from captionlab.errors import ConfigError
from captionlab.images.photos import num_cores


def gpus() -> list[str]:
    """Names of the cards as CUDA_VISIBLE_DEVICES has them; CUDA itself is not started."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = [name for name in visible.split(",") if name] if visible is not None else []
    return names[:count] if names else [str(i) for i in range(count)]


def num_devices(trainer: Mapping[str, Any]) -> int | None:
    """How many devices of one machine a run asks for; None for all there are.

    Args:
        trainer: options of the run's Trainer.
    """
    from captionlab.devices import devices_asked_for  # brings torch

    return devices_asked_for(trainer["devices"])


def uses_gpus(trainer: Mapping[str, Any], num_gpus: int) -> bool:
    """Whether a run computes on cards."""
    accelerator = trainer["accelerator"]
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and num_gpus > 0)


def check_devices(trainer: Mapping[str, Any], num_gpus: int) -> None:
    """Refuse more devices than this machine has.

    Args:
        trainer: options of the run's Trainer.
        num_gpus: of this machine.

    Raises:
        ConfigError: naming both numbers.
    """
    wanted = num_devices(trainer)
    if wanted is None:
        return
    if uses_gpus(trainer, num_gpus):
        if wanted > num_gpus:
            raise ConfigError(
                f"trainer.devices={wanted} asks for {wanted} GPUs, found {num_gpus}; lower it, "
                "or use trainer.accelerator=cpu."
            )
    elif trainer["accelerator"] == "auto" and wanted > num_cores():
        raise ConfigError(
            f"trainer.devices={wanted} is more than this machine has: no GPU and {num_cores()} "
            "CPU cores; lower it, or use trainer.accelerator=cpu to start that many processes."
        )


def check_shared(trainer: Mapping[str, Any], num_gpus: int) -> None:
    """Refuse cards by their numbers where runs share them: each run sees its own, renumbered.

    Args:
        trainer: options of the run's Trainer.
        num_gpus: of this machine.

    Raises:
        ConfigError: saying how to name them.
    """
    from captionlab.devices import device_numbers  # brings torch

    numbers = device_numbers(trainer["devices"])
    if numbers is not None and uses_gpus(trainer, num_gpus):
        raise ConfigError(
            f"trainer.devices={trainer['devices']} names GPUs, which n_jobs gives out among runs; "
            f"use trainer.devices={len(numbers)}, and CUDA_VISIBLE_DEVICES to choose among GPUs."
        )


def check_step(trainer: Mapping[str, Any], is_sweep: bool = False) -> None:
    """Refuse what would wait for ever for other tasks of a SLURM job.

    Args:
        trainer: options of the run's Trainer.
        is_sweep: whether this process starts the run, as one of a sweep.

    Raises:
        ConfigError: saying how to start it.
    """
    environment = os.environ
    num_tasks = int(environment.get("SLURM_NTASKS", "1"))
    is_parallel = trainer["num_nodes"] * (num_devices(trainer) or 1) > 1
    if not is_parallel or num_tasks == 1:
        return
    in_step = "SLURM_STEP_ID" in environment
    if is_sweep and in_step:
        raise ConfigError(
            f"this sweep was started {num_tasks} times by srun, and its runs have several devices "
            "each; start it once, by srun --ntasks=1, or use hydra/launcher=slurm."
        )
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if not is_sweep and not in_step and not interactive:
        raise ConfigError(
            f"the batch script has {num_tasks} tasks but started one process, which would wait "
            "for the others; start the command by srun."
        )


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
