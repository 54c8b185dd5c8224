"""Weights & Biases: one W&B run per run, whatever happens to its process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, get_args

from pytorch_lightning.loggers import WandbLogger

from captionlab.errors import ConfigError

Mode = Literal["online", "offline", "disabled"]


class WandbRunLogger(WandbLogger):
    """Curves, scores and configuration of a run in W&B.

    The W&B id is the run's own, so that a resumed run goes on in the same W&B run.

    Args:
        run_folder: of the run; the offline files go to `wandb/` in it.
        run_id: names the W&B run.
        project: W&B project.
        entity: W&B team or user; None for the account's default.
        mode: `offline` needs no account and no network; `disabled` writes nothing.

    Raises:
        ConfigError: if wandb is not installed or cannot start.
    """

    def __init__(
        self,
        run_folder: Path,
        run_id: str,
        project: str,
        entity: str | None,
        mode: Mode,
    ) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"logger.mode={mode} is unknown; use {', '.join(get_args(Mode))}.")
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "logger=wandb needs the package wandb, which is not installed; "
                "run `python -m pip install 'captionlab[wandb]'` or choose logger=csv."
            ) from error
        try:
            experiment = wandb.init(
                dir=str(run_folder),
                id=run_id.rsplit("-", 1)[-1],
                name=run_id,
                project=project,
                entity=entity,
                mode=mode,
                resume="allow",
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"logger=wandb could not start ({error}); run `wandb login`, "
                "or set logger.mode=offline, which needs no account."
            ) from error
        super().__init__(experiment=experiment)

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Log a PNG file."""
        self.log_image(name, [str(path)], step)


def finish_wandb(exit_code: int) -> None:
    """End this process's W&B run, if there is one, so that the next does not go on in it."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=exit_code)
