"""Weights & Biases: one W&B run per run folder, whatever happens to its process."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pytorch_lightning.loggers import WandbLogger

from captionlab.errors import ConfigError
from captionlab.files import write_atomically
from captionlab.training.loggers import Outcome

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
_FLUSH_SECONDS = 1.0  # wandb 0.31 keeps records in memory for 15 s, and a SIGKILL loses them
_LONGEST_TAG = 64  # letters that W&B allows


class WandbRunLogger(WandbLogger):
    """Curves, scores, captioned photos and configuration of a run in W&B.

    The W&B id is kept in the run folder, so that a resumed run goes on in the same W&B run.

    Args:
        run_folder: of the run; the offline files go to `wandb/` in it.
        run_id: names the W&B run.
        project: W&B project.
        entity: W&B team or user; None for the account's default.
        mode: `offline` needs no account and no network; `disabled` writes nothing; None for what
            the environment variable WANDB_MODE says, else `online`.
        group: of W&B runs, such as those of a sweep.
        tags: to filter by.
        job_type: likewise.
        num_photos: test photos in the table of captions, the same ones in every run.
        artifacts: whether the best checkpoint and the predictions are uploaded, too.

    Raises:
        ConfigError: if wandb is not installed or cannot start.
    """

    def __init__(
        self,
        run_folder: Path,
        run_id: str,
        project: str,
        entity: str | None = None,
        mode: Mode | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        job_type: str | None = None,
        num_photos: int = 20,
        artifacts: bool = False,
    ) -> None:
        wandb = _import_wandb()
        self.num_photos = num_photos
        self.artifacts = artifacts
        try:
            experiment = wandb.init(
                dir=str(run_folder),
                id=_id_of(run_folder),
                name=run_id,
                project=project,
                entity=entity,
                mode=_mode(mode),
                group=group,
                tags=[str(tag)[:_LONGEST_TAG] for tag in tags],
                job_type=job_type,
                resume="allow",
                settings=wandb.Settings(silent=True, **_flushing(wandb)),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"logger=wandb could not start ({error}); run `wandb login`, "
                "or set logger.mode=offline, which needs no account."
            ) from error
        super().__init__(experiment=experiment)
        # As Lightning does where it makes the W&B run: a resumed run repeats no step.
        self.experiment.define_metric("trainer/global_step")
        self.experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    @staticmethod
    def conflict(spec: Mapping[str, Any]) -> str | None:
        """What would stop a run later: an unknown mode, or no login."""
        mode = _mode(spec.get("mode"))
        if mode not in get_args(Mode):
            return f"mode={mode} is unknown; use {', '.join(get_args(Mode))}."
        problem = _login_problem() if mode == "online" else None
        return problem and (
            f"mode=online needs a W&B account: {problem}; run `wandb login`, or set "
            "logger.mode=offline, which needs none."
        )

    def log_outcome(self, outcome: Outcome) -> None:
        """Numbers into the summary, photos into a table; see `OutcomeLogger`."""
        wandb = _import_wandb()
        run = self.experiment
        attends = any(photo.attention is not None for photo in outcome.photos)
        columns = ["photo", "image_id", "references", "caption", outcome.score_title]
        table = wandb.Table(columns + (["attention"] if attends else []))
        for photo in outcome.photos:
            table.add_data(
                wandb.Image(photo.picture, file_type="jpg"),
                photo.image_id,
                "\n".join(photo.references),
                photo.caption,
                photo.score,
                *([wandb.Image(photo.attention)] if attends else []),
            )
        run.log({"test/photos": table, "test/samples": wandb.Image(str(outcome.samples))})
        run.summary.update(dict(outcome.values))
        if self.artifacts:
            for kind, path in (("model", outcome.checkpoint), ("predictions", outcome.predictions)):
                artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
                artifact.add_file(str(path))
                run.log_artifact(artifact)


@contextmanager
def ending_wandb() -> Iterator[None]:
    """End this process's W&B run, if there is one, with the exit status of what is done inside.

    Without it the next run of the process would continue the same W&B run. A run that a signal
    stopped resumes later, which W&B calls preempted.
    """
    try:
        yield
    except SystemExit as stop:
        _finish(stop.code if isinstance(stop.code, int) else 1, is_stopped=stop.code != 0)
        raise
    except BaseException:
        _finish(1)
        raise
    _finish(0)


def _finish(exit_code: int, is_stopped: bool = False) -> None:
    wandb = sys.modules.get("wandb")
    if wandb is None or getattr(wandb, "run", None) is None:
        return
    try:
        if is_stopped:
            wandb.run.mark_preempting()
        wandb.finish(exit_code=exit_code)
    except Exception as error:  # its service may be gone; the run's own files are whole
        log.warning("W&B did not get the end of the run (%s)", error)


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "logger=wandb needs the package wandb, which is not installed; "
            "run `python -m pip install 'captionlab[wandb]'` or choose logger=csv."
        ) from error
    return wandb


def _mode(mode: str | None) -> str:
    return mode or os.environ.get("WANDB_MODE") or "online"


@cache  # all runs of a sweep ask
def _login_problem() -> str | None:
    """Why there are no credentials; nothing is sent."""
    wandb = _import_wandb()
    try:
        found = wandb.login(prompt=False, verify=False)
    except TypeError:  # an older wandb would ask on the terminal; wandb.init says it then
        return None
    except wandb.errors.Error as error:
        return str(error).rstrip(".")
    return None if found else "no login was found"


def _flushing(wandb: Any) -> dict[str, float]:
    """The setting that writes records soon, where the version has it."""
    name = "x_transaction_log_flush_interval"
    known = getattr(wandb.Settings, "model_fields", {})
    return {name: _FLUSH_SECONDS} if name in known else {}


def _id_of(run_folder: Path) -> str:
    """Made once per run folder: W&B never lets an id that was removed there be used again."""
    path = run_folder / "wandb" / "run-id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, uuid.uuid4().hex[:16] + "\n")
    return path.read_text(encoding="utf-8").strip()
