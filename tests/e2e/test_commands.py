"""The real command in a process of its own, on small embedded data."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.support.processes import run_command, with_defaults

ROOT = Path(__file__).parents[2]
SMALL = [
    "data.num_train=48",
    "data.num_val=12",
    "data.num_test=12",
    "data.num_workers=0",
    "encoder.image_size=72",
    "trainer.max_epochs=2",
]


def _small(arguments: Sequence[str]) -> list[str]:
    other_data = any(argument.startswith("data=") for argument in arguments)
    return [option for option in SMALL if not (other_data and option.startswith("data."))]


def command(folder: Path, *arguments: str) -> list[str]:
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/data"]
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if argument not in flags]
    options = with_defaults(_small(overrides), overrides)
    return [sys.executable, str(ROOT / "run.py"), *flags, *options, *places]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command(command(folder, *arguments), **environment)


def run_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "runs" / "shapes").glob("*/status.json"))


def read(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text())
    return content


def test_a_sweep_compares_and_answers_again_from_disk(tmp_path: Path) -> None:
    arguments = ("-m", "encoder=resnet18", "decoder=lstm,gru", "logger=tensorboard")
    first = run(tmp_path, *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "CIDEr-D" in first.stdout
    assert re.search(r"^\[2/2\] decoder=gru: complete: CIDEr-D [\d.]+ ", first.stdout, re.M)
    report = tmp_path / "runs" / "shapes" / "report"
    assert sorted(p.name for p in report.iterdir()) == [
        "comparison.png",
        "comparison.svg",
        "index.html",
        "results.csv",
        "results.md",
        "significance.csv",
    ]
    folders = run_folders(tmp_path)
    assert len(folders) == 2
    said = "".join((folder / "output.log").read_text() for folder in folders)
    assert said.count("encoding 72 images") == 1, "two runs share the encoded images"
    for folder in folders:
        assert read(folder / "status.json")["state"] == "complete"
        result = read(folder / "result.json")
        assert result["missing"] == {}
        assert {"bleu_4", "meteor", "rouge_l", "cider_d"} <= set(result["scores"])  # type: ignore[call-overload]
        assert len((folder / "predictions.jsonl").read_text().splitlines()) == 12
        assert len((folder / "metrics.csv").read_text().splitlines()) == 3
        assert list((folder / "tensorboard").glob("events*"))
        checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        assert not any("trunk" in key for key in checkpoint["state_dict"])
        assert checkpoint["captionlab"]["vocabulary"][:2] == ["<pad>", "<start>"]
        assert checkpoint["captionlab"]["features"]["encoder"].startswith("resnet18/")
    table = (report / "results.csv").read_text()
    written = [(folder / "result.json").stat().st_mtime_ns for folder in folders]

    again = run(tmp_path, *arguments)
    assert again.returncode == 0
    assert again.stdout.count("loaded from disk") == again.stdout.count("(computed in ") == 2
    assert "epoch 1/" not in again.stdout
    assert [(folder / "result.json").stat().st_mtime_ns for folder in folders] == written
    assert (report / "results.csv").read_text() == table


def test_a_killed_run_resumes_to_the_same_captions(tmp_path: Path) -> None:
    arguments = ("encoder=resnet18", "trainer.max_epochs=8")
    whole = run(tmp_path / "whole", *arguments)
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen(
        command(tmp_path / "killed", *arguments),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("epoch 2/8"):
            killed.send_signal(signal.SIGKILL)
    killed.wait()
    (folder,) = run_folders(tmp_path / "killed")
    assert read(folder / "status.json")["state"] == "running"
    resumed = run(tmp_path / "killed", *arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after epoch" in resumed.stdout
    assert "epoch 1/8" not in resumed.stdout
    (other,) = run_folders(tmp_path / "whole")
    assert folder.name == other.name
    predictions = [(each / "predictions.jsonl").read_text() for each in (folder, other)]
    assert predictions[0] == predictions[1]
    losses = [
        [row["val/loss"] for row in csv.DictReader((each / "metrics.csv").open())]
        for each in (folder, other)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8


def test_two_processes_train_one_run(tmp_path: Path) -> None:
    arguments = ("encoder=resnet18", "trainer.devices=2", "+trainer.strategy=ddp")
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = run_folders(tmp_path)
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 12
    assert read(folder / "result.json")["num_images"] == 12
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3


def test_a_failing_job_is_reported_and_the_others_run(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pth"
    torch.save({"fc.weight": torch.zeros(1)}, bad)
    done = run(tmp_path, "-m", "encoder=resnet18", f"encoder.weights={bad},none")
    assert done.returncode == 1
    assert "1 of 2 runs failed" in done.stderr
    assert "does not fit resnet18" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    states = {read(folder / "status.json")["state"] for folder in run_folders(tmp_path)}
    assert states == {"complete", "failed"}
    assert "no result: " in (tmp_path / "runs" / "shapes" / "report" / "results.md").read_text()


def _damaged_photo(folder: Path) -> None:
    run(folder, "encoder=resnet99")  # composes nothing, makes nothing
    from captionlab.corpora.datasets import Shapes

    shapes = Shapes(folder / "data" / "shapes", 48, 12, 12, 48, generator_seed=0, num_captions=1)
    shapes.read_all()
    (shapes.folder / "images" / "test_00002.jpg").write_bytes(b"")


# The real command; tests/runs/test_mistakes.py has all of them.
BAD: dict[str, tuple[tuple[str, ...], str, Callable[[Path], object] | None]] = {
    "unknown key": (("decoder.hiden_dim=3",), r"error: .*did you mean decoder\.hidden_dim", None),
    "wrong type": (("-m", "decoder.hidden_dim=8,x"), r"hidden_dim must be .*, found x", None),
    "no such device": (("trainer.accelerator=tpu",), r"error: trainer\.accelerator=tpu", None),
    "unreadable photo": (("encoder=resnet18",), r"error: photo .*test_00002\.jpg", _damaged_photo),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_clear_line(tmp_path: Path, case: str) -> None:
    arguments, message, damage = BAD[case]
    if damage is not None:
        damage(tmp_path)
    done = run(tmp_path, *arguments)
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert re.search(message, output), output
    assert "Traceback" not in output
    assert "epoch 1/" not in output


def test_java_that_does_not_start_costs_only_what_needs_it(tmp_path: Path) -> None:
    code = (
        "import sys; import captionlab.metrics.java as java;"
        "java.find_java = lambda: '/nowhere/java';"
        f"sys.argv = {['run.py', *command(tmp_path, 'encoder=resnet18')[2:]]!r};"
        f"sys.argv[0] = {str(ROOT / 'run.py')!r};"
        "from captionlab.runs.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "meteor is missing: " in done.stdout
    (folder,) = run_folders(tmp_path)
    result = read(folder / "result.json")
    assert "meteor" in result["missing"]  # type: ignore[operator]
    assert "cider_d_pyptb" in result["scores"]  # type: ignore[operator]
    assert "cider_d" not in result["scores"]  # type: ignore[operator]
