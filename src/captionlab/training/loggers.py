"""Where curves and scores go, beside the run's own `metrics.csv`."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from captionlab.files import write_atomically


def set_rank(rank: int) -> None:
    """Tell Lightning's loggers whether to write: they would believe SLURM_PROCID."""
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


class MetricsCSV(Logger):
    """One row per epoch in a file that a resumed run goes on writing.

    Lightning's CSVLogger deletes the earlier rows of a folder it finds (pytorch-lightning 2.6).

    Args:
        path: of the file; replaced as a whole, so that it is never half written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._is_saved = True  # a process whose forks train has no rows of its own to write
        self._rows: dict[int, dict[str, str]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = {int(row["epoch"]): row for row in csv.DictReader(file)}

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing: the configuration lies in the run folder."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take what is logged once per epoch."""
        if "epoch" not in metrics:
            return
        row = self._rows.setdefault(int(metrics["epoch"]), {"epoch": str(int(metrics["epoch"]))})
        values = {name: value for name, value in metrics.items() if not name.endswith("_step")}
        row.update({name: f"{value:.6g}" for name, value in values.items() if name != "epoch"})
        row["step"] = str(step)
        self._is_saved = False

    @rank_zero_only
    def save(self) -> None:
        """Write all rows, if there is anything new in them."""
        if self._is_saved:
            return
        names = sorted({name for row in self._rows.values() for name in row} - {"epoch", "step"})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["epoch", "step", *names])
        writer.writeheader()
        writer.writerows(row for _, row in sorted(self._rows.items()))
        write_atomically(self.path, text.getvalue())
        self._is_saved = True


@runtime_checkable
class PictureLogger(Protocol):
    """A logger that takes pictures, too."""

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Log a PNG file."""


class TensorBoardRunLogger(TensorBoardLogger):
    """Event files in `tensorboard/` of the run folder.

    Args:
        run_folder: of the run.
        run_id: not used; every logger is given it.
    """

    def __init__(self, run_folder: Path, run_id: str) -> None:
        super().__init__(run_folder, name="", version="tensorboard", default_hp_metric=False)

    @rank_zero_only
    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Log a PNG file."""
        pixels = np.asarray(Image.open(path).convert("RGB"))
        self.experiment.add_image(name, pixels, step, dataformats="HWC")
