"""Makes `hydra/launcher=local` and `hydra/launcher=slurm` known to Hydra.

Hydra 1.3 takes a launcher from this package alone; it is the same class under another name.
"""

from captionlab.runs.launching import local, slurm


class LocalLauncher(local.LocalLauncher):
    """See `captionlab.runs.launching.local`."""


class SlurmLauncher(slurm.SlurmLauncher):
    """See `captionlab.runs.launching.slurm`."""
