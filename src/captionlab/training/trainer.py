"""Lightning's Trainer, as the suite runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from captionlab.errors import ConfigError
from captionlab.options import Count, Derived, NonNegative

if TYPE_CHECKING:  # it takes seconds to import, and options are read at every start
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import Callback
    from pytorch_lightning.loggers import Logger


def make_trainer(
    *,
    accelerator: str,
    devices: int | str | list[int],
    num_nodes: Count,
    precision: Literal[
        "auto", "32-true", "32", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"
    ],
    max_epochs: Count,
    gradient_clip_val: NonNegative | None,
    log_every_n_steps: Count,
    enable_progress_bar: bool | None,
    enable_model_summary: bool,
    num_sanity_val_steps: Annotated[int, Ge(-1)],
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    folder: Annotated[Path, Derived],
    **others: Any,
) -> pl.Trainer:
    """The Trainer of a run.

    Args:
        accelerator: `auto`, `cpu`, `gpu`, `mps` or another of Lightning's.
        devices: how many, which, or `auto`.
        num_nodes: machines.
        precision: number format; `auto` is bf16 where the hardware makes it fast, else fp32.
        max_epochs: passes over the training images.
        gradient_clip_val: largest norm of the gradient; null for no limit.
        log_every_n_steps: steps between two points of a logger's curves.
        enable_progress_bar: null for a bar where a person is watching.
        enable_model_summary: whether a table of layers is printed.
        num_sanity_val_steps: validation batches before training; -1 for all.
        callbacks: called in this order.
        loggers: of curves.
        folder: of the run.
        others: any other argument of Lightning's Trainer.

    Raises:
        ConfigError: if Lightning refuses an argument.
    """
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning.callbacks import TQDMProgressBar

    # A log file gets the epoch lines alone.
    bar = sys.stderr.isatty() if enable_progress_bar is None else enable_progress_bar
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,  # type: ignore[arg-type]  # resolved by the caller
            max_epochs=max_epochs,
            gradient_clip_val=gradient_clip_val,
            log_every_n_steps=log_every_n_steps,
            enable_progress_bar=bar,
            enable_model_summary=enable_model_summary,
            num_sanity_val_steps=num_sanity_val_steps,
            logger=list(loggers),
            callbacks=[*([TQDMProgressBar(leave=False)] if bar else []), *callbacks],
            default_root_dir=folder,
            use_distributed_sampler=False,  # ours shards by rank and never pads validation
            **others,
        )
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
