"""`captionlab runs`, on folders made for it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from captionlab.captioner.best_run import best_run
from captionlab.cli import main
from captionlab.errors import RunError
from captionlab.evaluation.evaluate import evaluate
from captionlab.evaluation.request import Request
from captionlab.evaluation.result import Prediction, Result, Training
from captionlab.reports import Comparison
from captionlab.run_files import PRUNED, RESULTS_VERSION, State, find_runs
from captionlab.runs.folder import RunFolder
from captionlab.runs.launching import cluster
from captionlab.runs.sweep import SweepComparison
from tests.support.results import Results


def finished(path: Path, score: float, **config: object) -> RunFolder:
    folder = RunFolder(path)
    folder.set_state("complete", command=[sys.executable, "-c", ""])
    training = Training({}, {"train": 12.0}, 3, 2, {"val/cider_d": score}, 1)
    result = Result({"cider_d": score}, {}, {}, {}, {}, {}, [], 1, training)
    folder.write_result(result, [Prediction("a", "b", {}, {})])
    values = {"seed": 0, "trainer": {"max_epochs": 9}} | config
    folder.config_path.write_text(yaml.safe_dump(values))
    folder.metrics_path.write_text("epoch,val/loss\n0,1\n1,1\n2,1\n3,\n")  # the fourth began
    return folder


def test_runs_are_listed_with_state_progress_and_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a", 0.5)
    RunFolder(tmp_path / "b").set_state("failed", "DataError: [/x] no photo")
    assert main(["runs", "list", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "complete" in output
    assert "3/9" in output
    assert "50.0" in output
    assert "DataError: [/x] no photo" in output
    assert main(["runs", "list", "--json", str(tmp_path)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["state"], first["scores"], first["seconds"]) == (
        "complete",
        {"cider_d": 0.5},
        {"train": 12.0},
    )
    assert (second["state"], second["max_epochs"]) == ("failed", None)


def test_a_run_that_is_named_twice_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    finished(runs / "b", 0.5)
    finished(runs / "a", 0.4)
    named = [str(runs / "b"), str(runs), str(tmp_path / "runs" / ".." / "runs" / "a")]
    assert main(["runs", "list", "--json", *named]) == 0
    folders = [Path(run["folder"]).name for run in json.loads(capsys.readouterr().out)]
    assert folders == ["b", "a"]
    assert main(["runs", "remove", *named]) == 0
    assert list(runs.iterdir()) == []


def test_settings_that_differ_are_columns_unless_the_name_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path)
    for seed, (decoder, size) in enumerate([("lstm", 1), ("lstm", 3), ("gru", 3)]):
        results.run("vgg", decoder, seed, search={"beam_size": size, "max_length": 20})
    RunFolder(tmp_path / "waiting").set_state("queued")
    assert main(["runs", "list", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "search.beam_size" in printed
    assert "decoder.name" not in printed
    assert "max_length" not in printed
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    sizes = {row[0]: row[2] for row in rows if row and row[0]}
    expected = {"vgg-gru-s2": "3", "vgg-lstm-s0": "1", "vgg-lstm-s1": "3", "waiting": ""}
    assert sizes == expected


def test_a_result_that_is_damaged_is_listed_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path / "a", 0.5)
    folder.result_path.write_text("{}")
    assert main(["runs", "show", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "state: damaged" in output
    assert "result.json" in output


def test_a_result_that_was_edited_is_told_and_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a", 0.5)
    path = finished(tmp_path / "b", 0.25).result_path
    path.write_text(path.read_text().replace("0.25", "0.75"))
    for command in (["runs", "list"], ["runs", "show"], ["report"]):
        assert main([*command, str(tmp_path)]) == 0
        output = capsys.readouterr().out
        assert output.count("b/result.json was changed after the run wrote it") == 1
        assert "75.0" not in output
        assert "0.75" not in output
        assert "50.0" in output or "0.5" in output
    with pytest.raises(RunError, match="was changed"):
        best_run(tmp_path)
    with pytest.raises(RunError, match="was changed"):
        evaluate(tmp_path / "b", Request())


def test_what_differs_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = finished(tmp_path / "a", 0.5, decoder={"hidden_dim": 8, "dropout": 0.1})
    second = finished(tmp_path / "b", 0.25, decoder={"hidden_dim": 16, "dropout": 0.1})
    assert main(["runs", "diff", "--json", str(first.path), str(second.path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "decoder.hidden_dim": [8, 16],
        "cider_d": [0.5, 0.25],
    }
    assert main(["runs", "diff", str(first.path), str(tmp_path)]) == 1
    assert "is no run" in capsys.readouterr().err


def test_values_that_differ_are_shown_as_one_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finished(tmp_path / "a", 0.5, search={"size": None, "exact": True})
    second = finished(tmp_path / "b", 0.5, search={"size": 5})
    assert main(["runs", "diff", str(first.path), str(second.path)]) == 0
    shown = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["search.size", "null", "5"] in shown
    assert ["search.exact", "true", "-"] in shown
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert {"true", "-"} <= set(capsys.readouterr().out.split())


def test_logs_of_the_run_and_of_the_cluster_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path / "a", 0.5)
    folder.log_path.write_text("epoch [1/2]")
    (folder.path / "slurm.log").write_text("DUE TO TIME LIMIT")
    assert main(["runs", "logs", str(folder.path)]) == 0
    output = capsys.readouterr().out
    assert "epoch [1/2]" in output
    assert "DUE TO TIME LIMIT" in output


def test_what_has_no_result_is_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a", 0.5)
    folder = RunFolder(tmp_path / "b")
    folder.set_state("stopped", command=[sys.executable, "-c", "print('ran again')"])
    assert main(["runs", "retry", str(tmp_path)]) == 0
    assert capfd.readouterr().out.count("ran again") == 1
    folder.set_state("failed")
    assert main(["runs", "retry", str(tmp_path)]) == 1
    assert "does not say how it was started" in capfd.readouterr().err


def test_a_run_is_tried_again_in_the_folder_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    code = "import os; print('ran in', os.getcwd())"
    RunFolder(tmp_path / "a").set_state("failed", command=[sys.executable, "-c", code])
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "retry", str(tmp_path / "a")]) == 0
    assert f"ran in {tmp_path / 'there'}\n" in capfd.readouterr().out


def test_pruned_trials_are_run_again_only_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trial = RunFolder(tmp_path / "a")
    reason = f"{PRUNED} by `captionlab tune` after epoch 2"
    code = "import sys; print('ran again with', *sys.argv[1:])"
    words = ["seed=1", "test=False", "++test=false"]
    trial.set_state("stopped", reason, command=[sys.executable, "-c", code, *words])
    assert main(["runs", "retry", str(tmp_path)]) == 0
    assert "ran again" not in capfd.readouterr().out
    assert main(["runs", "retry", str(trial.path)]) == 0
    assert "ran again with seed=1\n" in capfd.readouterr().out, "it is tested, too"
    monkeypatch.chdir(trial.path)
    assert main(["runs", "retry", "."]) == 0
    assert "ran again" in capfd.readouterr().out


def test_a_link_to_a_run_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "runs" / "a", 0.5)
    (tmp_path / "runs" / "b").symlink_to(run.path)
    assert main(["runs", "remove", str(tmp_path / "runs" / "b")]) == 1
    assert "b is a link to " in capsys.readouterr().err
    assert run.path.exists()


def test_living_runs_are_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, alive = finished(tmp_path / "a", 0.5), RunFolder(tmp_path / "b")
    alive.set_state("running")
    assert main(["runs", "remove", str(tmp_path)]) == 1
    assert "stop it first" in capsys.readouterr().err
    assert done.path.exists()
    alive.set_state("stopped")
    assert main(["runs", "remove", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []
    assert main(["runs", "list", str(tmp_path)]) == 1
    assert "there are no runs" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_requeued_run_waits_on_the_cluster_and_is_left_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    state: State,
) -> None:
    monkeypatch.setattr(cluster, "queued_array_tasks", lambda: {"7_1": "pending"})
    folder = RunFolder(tmp_path / "a")
    command = [sys.executable, "-c", "print('ran again')"]
    folder.set_state(state, "stopped by SIGTERM", command=command)
    status = folder.status_path.read_text().replace('"host": "', '"host": "node of ')
    folder.status_path.write_text(status)
    os.utime(folder.status_path, (0, 0))
    assert folder.condition == ("stopped" if state == "stopped" else "dead")
    folder.cluster_path.write_text('{"job": "7_1"}')
    assert main(["runs", "list", "--json", str(tmp_path)]) == 0
    (listed,) = json.loads(capfd.readouterr().out)
    assert (listed["state"], listed["reason"]) == ("queued", "requeued by SLURM")
    assert main(["runs", "retry", str(tmp_path)]) == 0
    assert "ran again" not in capfd.readouterr().out
    assert main(["runs", "remove", str(tmp_path)]) == 1
    assert "SLURM job 7_1); stop it first" in capfd.readouterr().err
    callback = SweepComparison()
    callback.on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert "0 of 1 runs are complete, 1 are still to come" in capfd.readouterr().out
    monkeypatch.setattr(cluster, "queued_array_tasks", lambda: {})
    assert main(["runs", "retry", str(tmp_path)]) == 0
    assert "ran again" in capfd.readouterr().out


def test_results_of_older_code_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, old = finished(tmp_path / "a", 0.5), finished(tmp_path / "b", 0.25, seed=1)
    now.update_manifest(identity={"results_version": RESULTS_VERSION})
    old.update_manifest(identity={"results_version": RESULTS_VERSION - 1})
    for command in (["runs", "list"], ["runs", "show"], ["report"]):
        assert main([*command, str(tmp_path)]) == 0
        output = capsys.readouterr().out
        assert output.count("made by older code (results version ") == 1, output
    assert "37.5" not in output, "no mean over the two"
    assert main(["runs", "diff", "--json", str(now.path), str(old.path)]) == 0
    differences = json.loads(capsys.readouterr().out)
    assert differences["results_version"] == [RESULTS_VERSION, RESULTS_VERSION - 1]
    with pytest.raises(RunError, match=r"another configuration or version .*results_version"):
        old.check_identity({"results_version": RESULTS_VERSION})


def test_a_copy_of_a_run_counts_once_and_a_folder_without_runs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "runs")
    for seed in (0, 1):
        folder = results.run("a", "lstm", seed)
        RunFolder(folder).update_manifest(identity={"seed": seed})
    shutil.copytree(folder, folder.with_name(f"{folder.name}-copy"))
    assert main(["report", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert f"{folder.name}-copy is the same run as" in out.replace("\n", "")
    (group,) = Comparison.read(find_runs(tmp_path / "runs")).groups
    assert len(group.runs) == 2
    assert main(["report", str(tmp_path / "runs"), str(tmp_path / "tpyo")]) == 1
    assert f"there are no runs in {tmp_path}/tpyo" in capsys.readouterr().err


def test_a_run_named_by_a_dot_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished(tmp_path / "run-s0", 0.5).path)
    assert main(["runs", "list", "."]) == 0
    assert "run-s0" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["caption x.jpg --run a", "evaluate a --split=val"])
def test_a_run_without_its_checkpoint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "a", 0.5)
    (tmp_path / "x.jpg").write_bytes(b"")
    assert main(words.split()) == 1
    assert "best.ckpt does not exist; if its run" in capsys.readouterr().err


def test_a_folder_of_runs_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "a", 0.5)
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "is a folder of 1 runs; name one, such as" in capsys.readouterr().err
