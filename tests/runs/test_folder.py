"""A run on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.errors import RunError
from captionlab.evaluation.result import Prediction, Result
from captionlab.files import write_atomically
from captionlab.runs.engine import keep_num_threads, number_formats
from captionlab.runs.folder import RunFolder


def test_state_and_result_survive(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.state is None
    folder.set_state("failed", "DataError: why")
    assert folder.state == "failed"
    result = Result({"bleu_4": 0.5}, {}, {}, {}, {}, {}, [], 1)
    folder.write_result(result, [Prediction("a", "ein Hünd", {}, {})])
    assert folder.read_result() is None, "the run is not complete"
    folder.set_state("complete")
    assert folder.read_result() == result
    assert "Hünd" in folder.predictions_path.read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "manifest.json",
        "predictions.jsonl",
        "result.json",
        "status.json",
    ]


@pytest.mark.parametrize("name", ["result.json", "predictions.jsonl"])
def test_a_result_that_was_edited_is_refused(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path / "run")
    result = Result({"bleu_4": 0.25}, {}, {}, {}, {}, {}, [], 1)
    folder.set_state("complete")
    folder.write_result(result, [Prediction("a", "a dog", {"bleu_4": 0.25}, {})])
    path = folder.path / name
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(RunError, match=rf"{name} was changed after .*runs remove .*evaluate "):
        folder.read_result()
    folder.write_result(result, [])  # as a repeat does
    assert folder.read_result() == result


def test_a_folder_of_another_configuration_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim({}, {"decoder": {"dim": 1, "betas": [1, 2]}})
    folder.claim({}, {"decoder": {"dim": 1, "betas": [1, 2]}})
    with pytest.raises(RunError, match=r"differs in decoder\.dim\)"):
        folder.claim({}, {"decoder": {"dim": 2, "betas": [1, 2]}})


def test_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state"')
    with pytest.raises(RunError, match=r"status\.json is damaged"):
        _ = RunFolder(tmp_path).state


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"


def test_a_run_that_resumes_in_another_number_format_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path)
    caplog.set_level("INFO")
    assert number_formats(folder, "bf16-mixed", "Xeon") == "bf16-mixed"
    assert caplog.messages == ["computing in bf16-mixed on Xeon"]
    folder.update_manifest(machine={"precision": "bf16-mixed", "hardware": "Xeon"})
    assert number_formats(folder, "bf16-mixed", "Xeon") == "bf16-mixed"
    assert len(caplog.messages) == 2, "the same format is no news"
    assert number_formats(folder, "32-true", "Core") == "bf16-mixed, then 32-true"
    warning = caplog.messages[-1]
    assert warning.startswith("this run began in bf16-mixed on Xeon and resumes in 32-true")


def test_a_run_goes_on_with_as_many_threads_as_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    folder = RunFolder(tmp_path)
    keep_num_threads(folder)
    assert chosen == [], "it begins"
    folder.update_manifest(machine={"num_threads": 3})
    keep_num_threads(folder)
    assert chosen == [3]
    assert caplog.messages == ["computing with 3 thread(s), as where the run began, not 2"]
