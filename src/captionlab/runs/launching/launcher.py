"""What all launchers do: compose the runs of a sweep, leave out the finished, report the rest.

Runs cannot leak memory, seeds or environment into each other, one that dies does not take the
others along, and Lightning's ddp starts its ranks by running the run's own command line again,
which under `-m` would run the whole sweep once per rank (pytorch-lightning #11300, hydra #2070).
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from captionlab.config.composition import SweepLoader
from captionlab.config.overrides import explain
from captionlab.errors import CaptionLabError
from captionlab.files import is_full, unwritable
from captionlab.options import check_options, options_of
from captionlab.runs.command import run_command
from captionlab.runs.folder import RunFolder, missing_folders, remove_empty
from captionlab.runs.identity import identity


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        label: its overrides, to tell it from the others.
        folder: where it goes.
        command: that runs it.
        trainer: options of its Trainer.
        config: the composed configuration, with Hydra's own part.
        overrides: as the sweeper gave them.
    """

    label: str
    folder: RunFolder
    command: list[str]
    trainer: dict[str, Any]
    config: DictConfig
    overrides: list[str]


class SweepLauncher(Launcher):
    """Brings the runs of a sweep that have no result yet to processes of their own."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        # The sweeper has the same context, and composes every run before this launcher does.
        hydra_context.config_loader = cast(ConfigLoader, SweepLoader(hydra_context.config_loader))
        self.context = hydra_context
        self.config = config
        self._checked: set[str] = set()  # the same encoder need not be made for every decoder
        self._missing = missing_folders(Path(config.hydra.sweep.dir))

    def check_own_options(self, **renamed: Any) -> None:
        """Check what the constructor was given against its annotations.

        Args:
            renamed: values of options that are no attributes of their own name.
        """
        options = options_of(type(self))
        values = {name: renamed.get(name, getattr(self, name)) for name in options}
        try:
            check_options("hydra.launcher.", options, values)
        except CaptionLabError as error:
            sys.exit(f"error: {error}")

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        job_overrides = [job for given in job_overrides for job in self._repeated(list(given))]
        shared = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
        runs = [self._compose(list(overrides), shared) for overrides in job_overrides]
        if not runs:
            self._refuse("the sweep has no runs; a list of values, such as of seed=, is empty.")
        self.num_runs = len(runs)
        waiting: dict[Path, tuple[int, SweepRun]] = {}
        try:
            for number, run in enumerate(runs, 1):
                line = self._answer(run)
                if line is not None:
                    self.say(number, run, f": {line}, {run.folder.path}")
                else:
                    waiting.setdefault(run.folder.path, (number, run))
            if waiting:
                self.check_machine([run for _, run in waiting.values()])
                self.run_all(dict(waiting.values()))
        except CaptionLabError as error:
            self._refuse(str(error))
        except OSError as error:
            if not is_full(error):
                raise
            self._refuse(str(unwritable(Path(self.config.hydra.sweep.dir), error)))
        return [self._returned(run) for run in runs]

    def _repeated(self, overrides: list[str]) -> list[list[str]]:
        """A combination once for each of its seeds."""
        loader = self.context.config_loader
        try:
            config = loader.load_sweep_config(self.config, overrides)
        except HydraException as error:  # of a sweeper that composes nothing itself
            told = explain(error, overrides, loader, self.config.hydra.job.config_name)
            self._refuse(f"{' '.join(overrides)}: {told}")
        try:
            number, first = config.repeats, config.seed
        except OmegaConfBaseException:  # reported where it is checked
            return [overrides]
        if not (isinstance(number, int) and isinstance(first, int)) or number <= 1:
            return [overrides]  # what is no number is reported where it is checked
        others = [o for o in overrides if not o.lstrip("+~").startswith(("seed=", "repeats="))]
        return [[*others, f"seed={seed}"] for seed in range(first, first + number)]

    def check_machine(self, runs: Sequence[SweepRun]) -> None:
        """Refuse what cannot run here, before anything starts.

        Raises:
            CaptionLabError: saying what is missing.
        """

    @abstractmethod
    def run_all(self, runs: dict[int, SweepRun]) -> None:
        """Run them, by their number in the sweep; the run folders say what became of them.

        Raises:
            CaptionLabError: if none could be started.
        """

    def say(self, number: int, run: SweepRun, text: str) -> None:
        """Print a line about a run."""
        print(self.line(number, run, text), flush=True)

    def line(self, number: int, run: SweepRun, text: str) -> str:
        """A text about a run, after its number and label."""
        return f"[{number}/{self.num_runs}] {run.label}{text}"

    def _answer(self, run: SweepRun) -> str | None:
        """Why a run need not be started; None if it must."""
        state = run.folder.state
        if state == "complete":
            run.folder.read_result()  # a damaged one is reported before anything starts
            return run.folder.cached_message
        if state == "failed" and self.config.retry == "none":
            return "failed before (retry=none)"
        return None

    def _refuse(self, message: str) -> NoReturn:
        """Say why there is no sweep, and remove what Hydra wrote for it into a new folder."""
        if self._missing:
            Path(self.config.hydra.sweep.dir, "multirun.yaml").unlink(missing_ok=True)
            remove_empty(self._missing)
        sys.exit(f"error: {message}")

    def _compose(self, overrides: list[str], shared: Collection[str]) -> SweepRun:
        """A run's configuration, checked; a mistake stops the sweep before its first run."""
        # Hydra imports this module at every start, and these bring torch.
        from captionlab.config.checks import check
        from captionlab.runs.requirements import check_new_parts

        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        try:
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = 0
            values = check(config)
            folder = RunFolder(Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir)
            folder.check_identity(identity(values))
            if folder.state != "complete":
                check_new_parts(values, self._checked)
        except CaptionLabError as error:
            self._refuse(f"{' '.join(overrides)}: {error}")
        return SweepRun(
            label=" ".join(o for o in overrides if o not in shared) or " ".join(overrides),
            folder=folder,
            command=run_command(overrides, self.config.hydra.overrides.hydra),
            trainer=values["trainer"],
            config=config,
            overrides=overrides,
        )

    def _returned(self, run: SweepRun) -> JobReturn:
        try:
            result = run.folder.read_result()
        except CaptionLabError:  # the comparison reports it
            result = None
        best = None if result is None else result.best_validation_score
        returned = JobReturn(
            overrides=run.overrides,
            cfg=run.config,
            hydra_cfg=run.config,
            working_dir=str(run.folder.path),
            task_name=run.config.hydra.job.name,
            status=JobStatus.COMPLETED,  # of the launcher's work; status.json tells the run's
            _return_value=float("nan") if best is None else best,
        )
        self.context.callbacks.on_job_end(config=run.config, config_name=None, job_return=returned)
        return returned
