"""Lightning's Trainer, as the suite runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from captionlab.devices import PrecisionOption, num_devices
from captionlab.errors import ConfigError
from captionlab.options import Count, NonNegative, Positive

if TYPE_CHECKING:  # it takes seconds to import, and options are read at every start
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import Callback
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class TrainerOptions:
    """Arguments of Lightning's Trainer that a run sets; any other of them may be added.

    Args:
        accelerator: `auto`, `cpu`, `gpu`, `mps` or another of Lightning's.
        devices: how many, which, or `auto`.
        num_nodes: machines.
        precision: number format; `auto` is bf16 where the hardware makes it fast, fp16 on GPUs of
            the Volta and Turing generations, else fp32.
        max_epochs: passes over the training images.
        gradient_clip_val: largest norm of the gradient; null for no limit.
        log_every_n_steps: steps between two points of a logger's curves.
        enable_progress_bar: whether a terminal gets bars; a log file has lines in any case.
        enable_model_summary: whether a table of layers is printed.
        num_sanity_val_steps: validation batches before training, not scored; -1 for all.
        checkpoint_every_minutes: how often a checkpoint to resume from is saved inside an epoch;
            null for at the ends of epochs alone. Not Lightning's.
        checkpoint_every_steps: likewise, in optimizer steps.
    """

    accelerator: str
    devices: int | str | list[int]
    num_nodes: Count
    precision: PrecisionOption
    max_epochs: Count
    gradient_clip_val: NonNegative | None
    log_every_n_steps: Count
    enable_progress_bar: bool
    enable_model_summary: bool
    num_sanity_val_steps: Annotated[int, Ge(-1)]
    checkpoint_every_minutes: Positive | None
    checkpoint_every_steps: Count | None


def make_trainer(
    options: Mapping[str, Any],
    precision: str,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    folder: Path,
) -> pl.Trainer:
    """The Trainer of a run.

    Args:
        options: of `TrainerOptions`, and any other argument of Lightning's Trainer.
        precision: number format, no longer `auto`.
        callbacks: called in this order.
        loggers: of curves.
        folder: of the run.

    Raises:
        ConfigError: if Lightning refuses an argument.
    """
    import pytorch_lightning as pl
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning.callbacks import LearningRateMonitor

    from captionlab.training.callbacks import LastCheckpoint
    from captionlab.training.checkpoints import CheckpointFiles

    # In Lightning's inference mode autocast converts weights at every use; see gradients.py.
    arguments: dict[str, Any] = {"inference_mode": False, **options}
    minutes, steps = (arguments.pop(f"checkpoint_every_{unit}") for unit in ("minutes", "steps"))
    plugins: list[Any] = [CheckpointFiles()]
    per_node = num_devices(arguments["devices"], arguments["accelerator"])
    num_processes = arguments["num_nodes"] * per_node
    if int(os.environ.get("SLURM_NTASKS", num_processes)) != num_processes:
        plugins.append(LightningEnvironment())  # SLURM's tasks are not the run's processes
    last = LastCheckpoint(folder / "checkpoints" / "last.ckpt", minutes, steps)
    rates = [LearningRateMonitor("step")] if loggers else []  # Lightning refuses it without any
    arguments |= {
        "precision": precision,
        "logger": list(loggers),
        "callbacks": [*callbacks, *rates, last],
        "enable_progress_bar": False,  # Lightning's: `callbacks` have ours
        "default_root_dir": folder,
        "plugins": plugins,
        "use_distributed_sampler": False,  # ours shards by rank and never pads validation
    }
    try:
        return pl.Trainer(**arguments)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error}") from error


def early_stopping(
    monitor: str, mode: Literal["min", "max"], patience: Count, min_delta: NonNegative = 0.0
) -> Callback:
    """Stops a training whose monitored score no longer improves.

    Args:
        monitor: the score, as it is logged.
        mode: whether more (`max`) or less (`min`) is better.
        patience: epochs without a better score.
        min_delta: least change that counts as better.
    """
    from pytorch_lightning.callbacks import EarlyStopping

    return EarlyStopping(monitor, min_delta, patience, mode=mode)
