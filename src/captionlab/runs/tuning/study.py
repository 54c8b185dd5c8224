"""The trials of a search, kept by Optuna in one file that several processes may use at once."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from captionlab.config.space import Dimension
from captionlab.errors import ConfigError, StorageError
from captionlab.files import unwritable
from captionlab.locks import OwnedLock, Owner, is_fresh
from captionlab.run_files import RunFiles
from captionlab.runs.folder import differing

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class _Journal(JournalFileBackend):
    """Optuna's file, in which a full disk leaves no half of a line for the next one to follow."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            path = Path(self._file_path)
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
            raise unwritable(path, error) from error


class Study:
    """What was tried in a folder of runs, and what to try next.

    Draws depend on `seed` and the trials so far alone, so that an interrupted search draws the
    same as an undisturbed one as long as it has one worker.

    Args:
        folder: of the runs; created.
        space: what varies.
        identity: of what is fixed, in plain values.
        seed: of the draws.

    Raises:
        ConfigError: if the folder has a search over another space or with other settings.
        StorageError: if the file of the search is damaged, or cannot be written.
        OSError: if the folder cannot be written.
    """

    def __init__(
        self, folder: Path, space: Sequence[Dimension], identity: Mapping[str, Any], seed: int
    ) -> None:
        self.folder = folder
        self.path = folder / "study.journal"
        self._space = space
        self._seed = seed
        self._lock = OwnedLock(folder / ".study.lock")
        folder.mkdir(parents=True, exist_ok=True)
        path = str(self.path.absolute())
        with self._lock.hold():
            try:
                storage = JournalStorage(_Journal(path, JournalFileOpenLock(path)))
                self._study = optuna.create_study(
                    storage=storage,
                    study_name="captionlab",
                    direction="maximize",
                    load_if_exists=True,
                    pruner=optuna.pruners.MedianPruner(),
                )
            except (ValueError, KeyError) as error:
                raise StorageError(
                    f"{self.path} is damaged ({error}); remove it, and run the same command again: "
                    "trials that are on disk are not trained again."
                ) from error
            self._claim_folder({d.key: str(d) for d in space}, identity)

    def _claim_folder(self, space: dict[str, str], identity: Mapping[str, Any]) -> None:
        made = self._study.user_attrs
        identity = json.loads(json.dumps(identity))
        if "space" not in made:
            self._study.set_user_attr("space", space)
            self._study.set_user_attr("identity", identity)
            return
        found: set[str] = differing(made["space"], space) or differing(made["identity"], identity)
        if found:
            key = min(found)
            one = [m.get(key, "not searched") for m in (made["space"], space)]
            told = f": {key} was {one[0]}, is {one[1]}" if one[0] != one[1] else ""
            raise ConfigError(
                f"{self.folder} has a search that differs in {', '.join(sorted(found))}{told}. "
                "Choose another name=, or give the same command as before."
            )

    def next_trial(self, num_trials: int, claim: Callable[[Trial], object]) -> Trial | None:
        """A trial to run, which no other process gets while this one lives.

        One whose process is gone is taken up again before another is drawn.

        Args:
            num_trials: of the search, counting those that other processes run.
            claim: sets the attribute `run`, the name of the trial's folder, and writes the status
                there, or ends the trial. Processes on other machines draw no trial meanwhile: for
                them the heartbeat of that status says that this one lives.

        Returns:
            With all values of the space; None if there are as many trials as there should be.
        """
        with self._lock.hold():
            trials = self.trials()
            abandoned = [
                trial
                for trial in trials
                if trial.state is TrialState.RUNNING and not self._has_owner(trial)
            ]
            if not abandoned and len(trials) >= num_trials:
                return None
            number = abandoned[0].number if abandoned else len(trials)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=self._seed + number, constant_liar=True
            )
            again = abandoned[0]._trial_id if abandoned else None
            trial = self._study.ask() if again is None else Trial(self._study, again)
            trial.set_user_attr("owner", asdict(Owner.current()))
            for dimension in self._space:
                self._draw(trial, dimension)
            claim(trial)
        return trial

    def _has_owner(self, trial: FrozenTrial) -> bool:
        owner = Owner.from_json(trial.user_attrs.get("owner", {}))
        alive = owner.is_alive() if owner is not None else False
        if alive is None:  # on another machine, whose heartbeat is that of the run
            run = trial.user_attrs.get("run", "")
            return is_fresh(RunFiles(self.folder / run).status_path)
        return alive

    @staticmethod
    def _draw(trial: Trial, dimension: Dimension) -> None:
        key, low, high, log = dimension.key, dimension.low, dimension.high, dimension.log
        if dimension.choices:
            trial.suggest_categorical(key, dimension.choices)
        elif isinstance(low, int) and isinstance(high, int):
            trial.suggest_int(key, low, high, step=int(dimension.step or 1), log=log)
        else:
            trial.suggest_float(key, low, high, step=dimension.step, log=log)

    def twin(self, trial: Trial) -> FrozenTrial | None:
        """An earlier trial of the same values, if there is any."""
        return next((t for t in self.trials()[: trial.number] if t.params == trial.params), None)

    def num_reported(self, trial: Trial) -> int:
        """Epochs of a trial that an earlier attempt reported."""
        return len(self.trials()[trial.number].intermediate_values)

    def complete(self, trial: Trial, score: float) -> None:
        """End a trial that has its score."""
        self._study.tell(trial, score, skip_if_finished=True)

    def prune(self, trial: Trial) -> None:
        """End a trial that scored too little so far."""
        self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, trial: Trial, reason: str) -> None:
        """End a trial that has no score, for a reason of one line."""
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def trials(self) -> list[FrozenTrial]:
        """All, in the order in which they were drawn."""
        return self._study.get_trials(deepcopy=False)

    def complete_trials(self) -> list[FrozenTrial]:
        """Those with a score, the best first."""
        done = [trial for trial in self.trials() if trial.state is TrialState.COMPLETE]
        return sorted(done, key=lambda trial: trial.value or 0.0, reverse=True)

    def importances(self) -> dict[str, float]:
        """How much of the spread of the scores each option explains, the most first; they sum to 1.

        Source:
            Watanabe et al. 2023, PED-ANOVA.
        """
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)
