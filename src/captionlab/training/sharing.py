"""What cannot be trained exactly on several devices, or in parts of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captionlab.batches import Loaders
from captionlab.batches.datamodule import sharing_of
from captionlab.decoders.conditioning import has_batch_norm, standardises_features_alone
from captionlab.errors import ConfigError

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from captionlab.training.module import CaptioningModule


def check_sharing(trainer: pl.Trainer, module: CaptioningModule, loaders: Loaders) -> None:
    """Refuse a run that would not be the same training as on one device and in whole batches.

    Raises:
        ConfigError: naming what stands against it.
    """
    sharing = sharing_of(trainer)
    loaders.images_per_step(sharing)
    normalised = has_batch_norm(module.decoder)
    if sharing.num_ranks > 1 and module.compiled and normalised:
        raise ConfigError(
            f"compile=true cannot compile the batch norm of {sharing}; use compile=false."
        )
    if sharing.num_parts == 1:
        return
    option = f"trainer.accumulate_grad_batches={sharing.num_parts}"
    if not module.objective.countable:
        raise ConfigError(
            f"{option} needs the number of words of a loss before it is computed, which "
            f"{type(module.objective).__name__} does not know; use 1, or more devices."
        )
    if normalised and (module.encoder or not standardises_features_alone(module.decoder)):
        why = "trained encoder" if module.encoder else "batch norm behind a layer that is trained"
        raise ConfigError(
            f"{option} cannot standardise by the whole batch with a {why}; use 1, or more devices."
        )
