"""`captionlab export` and `captionlab inspect`, as a user runs them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from captionlab.cli import main
from tests.support.results import Results
from tests.support.runs import Place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a result, as a training leaves it."""
    folder = tmp_path_factory.mktemp("export")
    finished = Place(folder / "runs").run("finished")
    scored = Results(folder).run("resnet18", "lstm")
    for name in ("result.json", "manifest.json", "predictions.jsonl"):
        (finished / name).write_bytes((scored / name).read_bytes())
    return finished


def test_a_run_is_exported_with_a_card_and_inspected(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, card = tmp_path / "new" / "model.safetensors", tmp_path / "README.md"
    assert main(["export", str(run), str(file), "--with-encoder", f"--card={card}"]) == 0
    said = capsys.readouterr().out
    assert "encoder weights: random-0-64; from drawn from seed 0" in said
    assert "in the file" in said
    assert f"written: {file}" in said
    text = card.read_text()
    assert "captionlab caption photo.jpg --run model.safetensors" in text
    assert "95 % interval" in text
    assert "run.py encoder=resnet18" in text

    for target in (file, run, run / "checkpoints" / "best.ckpt"):
        assert main(["inspect", str(target)]) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = {line.split("  ")[0]: line for line in lines}
        assert len(lines) < 25, "one screen"
        assert "resnet18, photos of 64x64" in rows["encoder"]
        assert "CIDEr-D 50.0" in rows["scores x100"]
        assert ("tensors of frozen encoder" in rows) == (target == file)


def test_an_onnx_folder_is_inspected_like_its_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    assert main(["export", str(run), str(folder), "--format=onnx"]) == 0
    shown = {}
    for target in (run, folder):
        capsys.readouterr()
        assert main(["inspect", str(target)]) == 0
        lines = capsys.readouterr().out.splitlines()
        shown[target] = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in lines}
    assert shown[folder]["kind"].startswith("ONNX, ")
    for name in ("encoder", "decoder", "search", "vocabulary", "data", "scores x100", "made by"):
        assert shown[folder][name] == shown[run][name]
    digest = hashlib.sha256((folder / "step.onnx").read_bytes()).hexdigest()
    assert shown[folder]["sha256 of step.onnx"] == digest

    (folder / "step.onnx").unlink()
    assert main(["inspect", str(folder)]) == 1
    assert "lacks step.onnx; export the run again" in capsys.readouterr().err
    for foreign in ("no JSON", "[]", "{}"):
        (folder / "captioner.json").write_text(foreign)
        assert main(["inspect", str(folder)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "is none of this captionlab's; make the folder by" in line


def test_scores_are_not_those_of_a_changed_search(run: Path, tmp_path: Path) -> None:
    command = ["export", str(run), str(tmp_path), "--format=onnx", "--set=search.beam_size=2"]
    assert main(command) == 0
    told = json.loads((tmp_path / "captioner.json").read_text())["run"]
    assert told["config"]["search"]["beam_size"] == 2
    assert "result" not in told


def test_a_result_from_elsewhere_is_read_back(run: Path, tmp_path: Path) -> None:
    """A file that was exported from a file still has the scores."""
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert main(["export", str(run), str(first)]) == 0
    assert main(["export", str(first), str(second), f"--card={tmp_path}/card.md"]) == 0
    assert "| CIDEr-D | 50.0 |" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is no checkpoint"),
        (b"PK\x03\x04 not a zip", "is no checkpoint"),
    ],
)
def test_a_foreign_file_gets_one_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign"
    if content is not None:
        path.write_bytes(content)
    assert main(["inspect", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_file_that_no_export_wrote_is_not_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, notes = tmp_path / "model.safetensors", tmp_path / "README.md"
    other = tmp_path / "best.ckpt"
    for path in (own, notes, other):
        path.write_text("mine")
    new = str(tmp_path / "new.safetensors")
    for arguments, told in (
        ([str(own)], "model.safetensors is a file that no export wrote"),
        ([str(other)], "end it in .safetensors, or export a folder by --format onnx"),
        ([str(tmp_path / "model.onnx")], "end it in .safetensors"),
        ([new, "--card", str(notes)], "README.md is a file that no export wrote"),
        ([str(tmp_path), "--format", "onnx"], "README.md is a file that no export wrote"),
        ([new, "--card", new], "new.safetensors is the file of the model, too"),
    ):
        assert main(["export", str(run), *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert {path.read_text() for path in (own, notes, other)} == {"mine"}
    command = ["export", str(run), new, "--card", str(tmp_path / "new.md")]
    assert main(command) == main(command) == 0, "its own it replaces"


def test_a_run_that_is_not_finished_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text(json.dumps({"state": "failed", "error": "x"}))
    run, file = str(tmp_path / "run"), str(tmp_path / "out.safetensors")
    for command in (["inspect", run], ["export", run, file]):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "is no finished run" in line
