"""A search: what is drawn, resumed, pruned and refused. Its runs are scripts that train nothing."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from optuna.trial import Trial, TrialState

from captionlab.cli import main
from captionlab.config.space import Dimension, split_space
from captionlab.errors import ConfigError, RunError, StorageError
from captionlab.locks import Owner
from captionlab.run_files import PRUNED, TRAINED
from captionlab.runs.folder import RunFolder
from captionlab.runs.launching.launcher import SweepRun
from captionlab.runs.main import config_loader
from captionlab.runs.tuning.plan import read_plan
from captionlab.runs.tuning.search import Search, is_trained
from captionlab.runs.tuning.study import Study

LR = Dimension("optimizer.lr", low=0.0, high=1.0)
# Writes what the epochs of a run write, each with the score that is the learning rate.
SCRIPT = f"""
import json, pathlib, sys, time
folder, score, epochs, seconds = pathlib.Path(sys.argv[1]), *map(float, sys.argv[2:5])
with open(folder.parent / "started.log", "a") as log:
    log.write(folder.name + "\\n")
if not epochs:
    sys.exit("no")
rows = ["epoch,val/cider_d"]
for epoch in range(int(epochs)):
    rows.append(f"{{epoch}},{{score}}")
    (folder / "new.csv").write_text("\\n".join(rows))
    (folder / "new.csv").replace(folder / "metrics.csv")
    time.sleep(seconds)
(folder / "status.json").write_text(json.dumps({{"state": "stopped", "reason": {TRAINED!r}}}))
"""


@dataclass
class FakePlan:
    """As `Plan`, with runs of a script."""

    folder: Path
    space: list[Dimension] = field(default_factory=lambda: [LR])
    monitor: str = "val/cider_d"
    epochs: int = 1
    seconds: float = 0.0

    def run(self, values: Mapping[str, Any], test: bool = False) -> SweepRun:
        value = values["optimizer.lr"]
        folder = RunFolder(self.folder / f"run-{value}")
        arguments = [str(folder.path), str(value), str(self.epochs), str(self.seconds)]
        command = [sys.executable, "-c", SCRIPT, *arguments, "test=false"]
        trainer = {"devices": 1, "accelerator": "cpu", "num_nodes": 1}
        return SweepRun(str(value), folder, command, trainer, OmegaConf.create({}), [])

    @property
    def started(self) -> list[str]:
        path = self.folder / "started.log"
        return path.read_text().split() if path.exists() else []


def study_in(folder: Path, *space: Dimension, seed: int = 0, **identity: Any) -> Study:
    return Study(folder, space or [LR], identity, seed)


def draw(study: Study, num_trials: int) -> Trial | None:
    return study.next_trial(num_trials, lambda trial: None)


def search(plan: FakePlan, num_trials: int, workers: int = 1, prune: bool = False) -> Study:
    study = study_in(plan.folder, *plan.space)
    Search(plan, study, num_trials, workers, prune).run()  # type: ignore[arg-type]
    return study


def test_each_trial_is_scored_by_its_best_epoch_once(tmp_path: Path) -> None:
    plan = FakePlan(tmp_path)
    scores = [(t.params["optimizer.lr"], t.value) for t in search(plan, 3).complete_trials()]
    assert len(scores) == 3
    assert all(score == lr for lr, score in scores)
    assert scores == sorted(scores, reverse=True)
    search(plan, 3)
    assert len(plan.started) == 3, "the search is over"
    assert len(search(plan, 4, workers=2).trials()) == 4
    assert len(set(plan.started)) == 4


def test_a_full_disk_is_one_line_and_leaves_no_half_of_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(backend: Any, logs: Any) -> None:
        with open(backend._file_path, "ab") as file:
            file.write(b'{"op_code":')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    search(FakePlan(tmp_path), 1)
    with monkeypatch.context() as patch:
        patch.setattr("optuna.storages.journal.JournalFileBackend.append_logs", fill)
        with pytest.raises(StorageError, match=r"study\.journal cannot be written \(No space left"):
            search(FakePlan(tmp_path), 3)
    assert len(search(FakePlan(tmp_path), 3).complete_trials()) == 3


def test_a_search_in_two_parts_draws_what_an_undisturbed_one_draws(tmp_path: Path) -> None:
    whole = search(FakePlan(tmp_path / "whole"), 13)  # ten of them are drawn without a model
    search(FakePlan(tmp_path / "parts"), 4)
    parts = search(FakePlan(tmp_path / "parts"), 13)
    assert [t.params for t in parts.trials()] == [t.params for t in whole.trials()]
    other = draw(study_in(tmp_path / "other", seed=1), 1)
    assert other is not None
    assert other.params != whole.trials()[0].params


def test_workers_share_a_search_without_sharing_a_trial(tmp_path: Path) -> None:
    workers = [study_in(tmp_path), study_in(tmp_path)]
    trials = [draw(worker, 3) for worker in (*workers, *workers)]
    assert trials[3] is None, "three are being run already"
    drawn = [trial.params["optimizer.lr"] for trial in trials if trial is not None]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_the_trial_of_a_dead_worker_is_taken_up_and_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    own = Owner.current()
    dead = replace(own, started=own.started - 1) if place == "here" else replace(own, host="x")
    with monkeypatch.context() as patch:
        study = study_in(tmp_path)
        patch.setattr("captionlab.runs.tuning.study.Owner.current", lambda: dead)
        lost = draw(study, 1)
    assert lost is not None
    lost.report(0.5, 0)
    again = study_in(tmp_path)
    trial = draw(again, 1)
    assert trial is not None
    assert (trial.number, trial.params) == (lost.number, lost.params)
    assert again.num_reported(trial) == 1
    assert draw(again, 1) is None


def test_a_living_worker_of_another_machine_keeps_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_in(tmp_path)
    own = Owner.current()
    with monkeypatch.context() as patch:
        patch.setattr("captionlab.runs.tuning.study.Owner.current", lambda: replace(own, host="x"))
        trial = draw(study, 1)
    assert trial is not None
    trial.set_user_attr("run", "a")
    RunFolder(tmp_path / "a").set_state("running")
    assert draw(study, 1) is None


def elsewhere(patch: pytest.MonkeyPatch) -> None:
    """What this process owns from here on belongs to another machine."""
    other = replace(Owner.current(), host="elsewhere")
    patch.setattr("captionlab.locks.Owner.current", lambda: other)


def test_a_trial_has_an_owner_for_other_machines_from_the_first_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, drawn = list[threading.Thread](), list[Trial | None]()

    class Overtaken(FakePlan):
        def run(self, values: Mapping[str, Any], test: bool = False) -> SweepRun:
            others.append(threading.Thread(target=lambda: drawn.append(draw(other, 1))))
            others[0].start()
            others[0].join(1)  # time enough for another machine to draw, if it may
            return super().run(values)

    plan, other = Overtaken(tmp_path), study_in(tmp_path)
    first = Search(plan, study_in(tmp_path), 1, 1, prune=False)  # type: ignore[arg-type]
    monkeypatch.setattr(first, "_begin", lambda job: None)
    with monkeypatch.context() as patch:
        elsewhere(patch)
        first._fill()
        others[0].join()
    assert drawn == [None]


def test_a_trial_that_waits_for_cards_keeps_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionlab.locks.BEAT_SECONDS", 0.05)
    first = Search(FakePlan(tmp_path), study_in(tmp_path), 1, 1, prune=False)  # type: ignore[arg-type]
    monkeypatch.setattr(first, "_begin", lambda job: None)
    with monkeypatch.context() as patch:
        elsewhere(patch)
        first._fill()
    status = first._jobs[0].run.folder.status_path
    os.utime(status, (0, 0))
    for _ in range(1000):
        if status.stat().st_mtime > 0:
            break
        time.sleep(0.01)
    assert draw(study_in(tmp_path), 1) is None
    first._jobs[0].heartbeat.close()
    os.utime(status, (0, 0))
    assert draw(study_in(tmp_path), 1) is not None


def test_what_falls_behind_is_pruned_and_can_be_trained_later(tmp_path: Path) -> None:
    class Falling(FakePlan):
        def run(self, values: Mapping[str, Any], test: bool = False) -> SweepRun:
            run = super().run(values)
            if len(self.started) >= 5:  # what comes now scores nothing, and would take an hour
                run.command[-4:-1] = ["-1", "1000", "3"]
            return run

    plan = Falling(tmp_path)
    study = search(plan, 6, prune=True)
    assert [trial.state for trial in study.trials()][5] is TrialState.PRUNED
    folder = RunFolder(tmp_path / plan.started[-1])
    assert folder.condition == "stopped"
    assert folder.reason.startswith(f"{PRUNED} by `captionlab tune` after epoch 1")
    assert "captionlab runs retry" in folder.reason
    assert not is_trained(folder)
    status = folder.read_status()
    assert status is not None
    assert status["command"][-3:] == ["1000", "3", "test=false"]


def test_failures_in_a_row_end_a_search_with_their_reason(tmp_path: Path) -> None:
    plan = FakePlan(tmp_path, epochs=0)
    with pytest.raises(RunError, match=r"2 trials in a row failed.* exit status 1"):
        search(plan, 9)
    assert len(plan.started) == 2
    plan.epochs = 1
    assert len(search(plan, 4).complete_trials()) == 2


def test_values_drawn_twice_are_not_trained_twice(tmp_path: Path) -> None:
    plan = FakePlan(tmp_path, [Dimension("optimizer.lr", choices=("0.25", "0.5"))])
    study = search(plan, 8)
    assert sorted(set(plan.started)) == sorted(plan.started)
    assert len(study.complete_trials()) == 8


def test_a_run_of_a_lost_search_is_answered_from_disk(tmp_path: Path) -> None:
    plan = FakePlan(tmp_path)
    search(plan, 2)
    (tmp_path / "study.journal").unlink()
    assert len(search(plan, 2).complete_trials()) == 2
    assert len(plan.started) == 2


def test_a_search_with_other_settings_is_refused(tmp_path: Path) -> None:
    study_in(tmp_path, LR, seed=0, data={"limit": 5})
    study_in(tmp_path, LR, seed=0, data={"limit": 5})
    with pytest.raises(ConfigError, match=r"differs in data\.limit\. Choose another name="):
        study_in(tmp_path, LR, seed=0, data={"limit": 6})
    with pytest.raises(ConfigError, match=r"optimizer\.lr was 0 to 1, is 0 to 2"):
        study_in(tmp_path, replace(LR, high=2.0), data={"limit": 5})


def test_a_damaged_search_is_one_line(tmp_path: Path) -> None:
    study_in(tmp_path)
    with (tmp_path / "study.journal").open("a") as file:
        file.write('{"op\n{}\n')
    with pytest.raises(StorageError, match=r"study\.journal is damaged"):
        study_in(tmp_path)


@pytest.mark.parametrize(
    ("word", "dimension"),
    [
        ("decoder=lstm,gru", Dimension("decoder", ("lstm", "gru"))),
        ("decoder=choice(lstm,gru)", Dimension("decoder", ("lstm", "gru"))),
        ("a.b=[1,2],[3]", Dimension("a.b", ("[1,2]", "[3]"))),
        ("a.b=range(1,4)", Dimension("a.b", low=1, high=3, step=1)),
        ("a.b=range(8,33,8)", Dimension("a.b", low=8, high=32, step=8)),
        ("a.b=range(0.1,0.45,0.1)", Dimension("a.b", low=0.1, high=0.4, step=0.1)),
        ("a.b=interval(0, 0.5)", Dimension("a.b", low=0.0, high=0.5)),
        ("a.b=int(interval(2, 9))", Dimension("a.b", low=2, high=9)),
        ("a.b=tag(log, interval(1e-4, 1))", Dimension("a.b", low=1e-4, high=1.0, log=True)),
    ],
)
def test_a_space_is_read_as_hydra_has_it(word: str, dimension: Dimension) -> None:
    space, fixed = split_space([word, "seed=3"], config_loader(None))
    assert space == [dimension]
    assert fixed == {"seed": "seed=3"}
    assert type(space[0].low) is type(dimension.low)


LSTM_GRU = "decoder=lstm,gru"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to search; give an option several values"),
        (["decoder=lstm"], "nothing to search"),
        (["decoder.hiden_dim=interval(1,2)"], r"did you mean decoder\.hidden_dim\?"),
        (["decoder=lstm,gruu"], "did you mean gru"),
        (
            ["decoder.dropout=interval(0,1)"],
            r"dropout=1\.0: .*less than 1",
        ),
        (["decoder.hidden_dim=interval(8,9)"], r"whole numbers write int\(interval"),
        (["decoder.dropout=interval(0.5,0.1)"], "begins with the smaller"),
        (["optimizer.lr=tag(log, interval(0,1))"], "above 0"),
        (["decoder.dropout=tag(log, range(1,3))"], "of an interval"),
        (["decoder=choice(lstm)"], "leaves nothing to choose"),
        (["seed=0,1,2"], "seed cannot be searched"),
        (["tokenizer=spacy", "tokenizer.language=en,klingon"], "'klingon' is unknown to spaCy"),
        ([LSTM_GRU, "decoder.dropout=2"], r"decoder\.dropout must be"),
        ([LSTM_GRU, "-m"], "leave -m out"),
        ([LSTM_GRU, "hydra/launcher=slurm"], "use --workers N, or start the command several times"),
        ([LSTM_GRU, "n_jobs=2"], "use --workers N"),
        ([LSTM_GRU, "test=false"], "only the best trial is tested"),
        ([LSTM_GRU, "--trials", "0"], "--trials must be a whole number of at least 1, found 0"),
        ([LSTM_GRU, "--config-dir", "nowhere"], "nowhere is no folder"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_made(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("captionlab.runs.stopping.catch_signals", lambda: None)
    assert main(["tune", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") <= 2
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(error)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_optuna_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tune", LSTM_GRU]) == 1
    assert "pip install 'captionlab[tune]'" in capsys.readouterr().err


def test_runs_of_a_search_are_those_of_the_train_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = read_plan([LSTM_GRU, "encoder=resnet18", "seed=4"], None)
    assert plan.folder == Path("runs/tune-shapes")
    trial, tested = plan.run({"decoder": "gru"}), plan.run({"decoder": "gru"}, test=True)
    assert trial.folder.path == tested.folder.path
    words = ["encoder=resnet18", "seed=4", "name=tune-shapes", "decoder=gru"]
    assert tested.command[-5:] == ["train", *words]
    assert trial.command[-6:] == ["train", *words, "test=false"]
    assert plan.confirmation({"decoder": "gru"}) == (
        "captionlab train -m encoder=resnet18 decoder=gru name=tune-shapes-confirmed seed=5,6,7"
    )
