"""Where curves and scores go, beside the run's own `metrics.csv`."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class LoggedPhoto:
    """A test photo with what a run wrote about it.

    Attributes:
        image_id: as in the corpus.
        picture: of the photo, small.
        references: what people wrote.
        caption: what the run wrote.
        score: of the caption.
        attention: picture of the attention at each word; None if the model does not attend.
    """

    image_id: str
    picture: Image.Image
    references: Sequence[str]
    caption: str
    score: float
    attention: Image.Image | None


@dataclass(frozen=True)
class Outcome:
    """What a finished run hands to its loggers.

    Attributes:
        values: every number of the result by name, such as `test/cider_d` or `cost/seconds_train`;
            `best/` and `last/` are the curves at the best and at the last epoch.
        score_title: of the photos' scores.
        photos: some of the test photos.
        samples: PNG file, a sheet of photos.
        checkpoint: of the best epoch.
        predictions: file of all captions.
        step: at which training ended.
    """

    values: Mapping[str, float]
    score_title: str
    photos: Sequence[LoggedPhoto]
    samples: Path
    checkpoint: Path
    predictions: Path
    step: int


@runtime_checkable
class OutcomeLogger(Protocol):
    """A logger that takes a finished run's outcome, too.

    Attributes:
        num_photos: how many photos it wants.
    """

    num_photos: int

    def log_outcome(self, outcome: Outcome) -> None:
        """Log it, once, at the end of the run."""


class TensorBoardRunLogger(TensorBoardLogger):
    """Event files in `tensorboard/` of the run folder.

    Args:
        run_folder: of the run.
        run_id: not used; every logger is given it.
        num_photos: test photos that are shown with their captions, the same ones in every run.
    """

    def __init__(self, run_folder: Path, run_id: str, num_photos: int = 20) -> None:
        super().__init__(run_folder, name="", version="tensorboard", default_hp_metric=False)
        self.num_photos = num_photos

    @rank_zero_only
    def log_outcome(self, outcome: Outcome) -> None:
        """Numbers as hparams, photos with captions as images and texts; see `OutcomeLogger`."""
        writer, step = self.experiment, outcome.step
        metrics = {f"final/{name}": value for name, value in outcome.values.items()}
        self.log_hyperparams(self.hparams, metrics, step)
        with Image.open(outcome.samples) as sheet:
            writer.add_image("test/samples", _pixels(sheet), step, dataformats="HWC")
        for photo in outcome.photos:
            name = f"photos/{photo.image_id}"
            caption = photo.caption or "(empty caption)"
            lines = [f"**{caption}** ({outcome.score_title} {photo.score:.2f})", *photo.references]
            writer.add_text(name, "\n\n".join(lines), step)
            picture = _pixels(photo.attention or photo.picture)
            writer.add_image(name, picture, step, dataformats="HWC")
        self.save()


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB"))
