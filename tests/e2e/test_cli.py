"""The `captionlab` command, on a run and on files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from captionlab.cli import main
from tests.e2e.test_commands import run, run_folders


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run and its data."""
    folder = tmp_path_factory.mktemp("cli")
    done = run(folder, "encoder=resnet18", "data.root=" + str(folder / "drawings"))
    assert done.returncode == 0, done.stdout + done.stderr
    (text,) = folder.glob("drawings/*/text")  # a folder for each recipe
    shutil.copytree(text.parent, folder / "shapes")
    return folder


def test_a_run_a_checkpoint_and_a_file_get_the_same_scores(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = run_folders(place)
    expected = json.loads((folder / "result.json").read_text())["scores"]
    assert main(["evaluate", str(folder)]) == 0
    (evaluation,) = (folder / "evaluation").iterdir()
    assert evaluation.name == f"{folder.name}-shapes-test"
    written = json.loads((evaluation / "scores.json").read_text())
    assert written["scores"] == expected
    assert written["truth"].keys() >= {"all", "number"}
    rows = list(csv.DictReader((evaluation / "per_image.csv").open()))
    assert len(rows) == 12
    assert {"meteor", "cider_d", "bleu_4", "rouge_l"} <= rows[0].keys()
    assert "people" in capsys.readouterr().out

    out = ["--out", str(place / "out")]
    file = evaluation / "captions_results.json"
    data = ["--data", str(place / "shapes")]
    assert main(["evaluate", str(file), *data, *out]) == 0
    from_file = json.loads((place / "out/captions_results-shapes-test/scores.json").read_text())
    assert from_file["scores"] == expected

    checkpoint = folder / "checkpoints" / "best.ckpt"
    more = ["--samples", "3", "--retrieval", "6", "--set", "search.beam_size=3"]
    assert main(["evaluate", str(checkpoint), *more, *out]) == 0
    name = "best-shapes-test-samples=3-retrieval=6-search.beam_size=3"
    result = place / "out" / name / "scores.json"
    written = json.loads(result.read_text())
    assert written["scores"] == expected
    assert written["language"]["perplexity"] > 1
    assert written["language"]["samples"] == 3
    assert 0 <= written["language"]["recall_at_1_of_6"] <= written["language"]["recall_at_5_of_6"]


def test_two_systems_are_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = (place / "shapes/text/Flickr8k.token.txt").read_text().splitlines()
    references = dict(line.split("#0\t") for line in tokens if "#0\t" in line)
    test = (place / "shapes/text/Flickr_8k.testImages.txt").read_text().split()
    people, blind = place / "people.jsonl", place / "blind.txt"
    people.write_text(
        "\n".join(json.dumps({"image_id": i, "caption": references[i]}) for i in test)
    )
    arguments = ["--data", str(place / "shapes"), "--out", str(place / "two")]
    blind.write_text(json.dumps([{"image_id": i, "caption": "a star ."} for i in test]))
    assert main(["evaluate", str(people), str(blind), *arguments, "--tokenizer", "python"]) == 0
    output = capsys.readouterr().out
    assert "Differences from people" in output
    assert "the captions collapsed" in output.replace("\n", " ")
    rows = list(csv.DictReader((place / "two" / "significance.csv").open()))
    assert {row["score"] for row in rows} >= {"cider_d_pyptb", "bleu_4_pyptb"}
    assert not any(row["score"] == "cider_d" for row in rows), "never an official name"


def test_a_part_is_scored_only_when_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = (place / "shapes/text/Flickr_8k.testImages.txt").read_text().split()
    file = place / "part.json"
    file.write_text(json.dumps([{"image_id": i, "caption": "a red star"} for i in test[:5]]))
    arguments = ["evaluate", str(file), "--data", str(place / "shapes"), "--tokenizer", "python"]
    assert main(arguments) == 1
    assert "7 of 12 images have no caption" in capsys.readouterr().err
    assert main([*arguments, "--subset"]) == 0
    name = "part-shapes-test-subset-5-tokenizer=python"
    assert (place / "evaluation" / name / "scores.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "/nowhere"], "/nowhere does not exist"),
        (["evaluate", "{place}"], "is no folder of a run; name one"),
        (["evaluate", "{place}/people.jsonl"], "--data ROOT"),
        (["evaluate", "{run}", "--set", "search.beamsize=3"], "beamsize"),
        (["evaluate", "{run}", "--set", "nothing"], "write KEY=VALUE"),
        (["evaluate", "{run}", "--samples", "1"], "--samples must be at least 2"),
        (["evaluate", "{run}/status.json", "--data", "{place}/shapes"], "line 1 is not valid JSON"),
        (["evaluate", "{run}/fake.ckpt"], "no checkpoint of captionlab"),
        (["evaluate", "{run}", "--data", "/nowhere"], "/nowhere"),
        (["evaluate", "{run}", "{run}"], "different names"),
        (["report", "/nowhere"], "no runs in /nowhere"),
    ],
)
def test_a_mistake_is_one_line(
    place: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = run_folders(place)
    (folder / "fake.ckpt").write_text("no")
    (place / "people.jsonl").touch()
    assert main([a.format(place=place, run=folder) for a in arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_random_weights_are_not_taken_to_other_data(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from captionlab.corpora.shapes import generate_shapes

    generate_shapes(tmp_path / "other", 8, 4, 4, 72, seed=5)
    (folder,) = run_folders(place)
    assert main(["evaluate", str(folder), "--data", str(tmp_path / "other")]) == 1
    assert "random weights that were fitted to its own data" in capsys.readouterr().err


def test_reports_are_made_from_folders_of_runs(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(place / "runs" / "shapes"), "--out", str(tmp_path)]) == 0
    assert "CIDEr-D" in capsys.readouterr().out
    assert (tmp_path / "results.csv").exists()
