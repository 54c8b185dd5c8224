"""Runs on disk in, tables out."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from captionlab.metrics.protocol import Metric
from captionlab.metrics.resampling import CorpusStatistics
from captionlab.reports import Comparison
from captionlab.reports.differences import Differences
from captionlab.reports.groups import number_varied
from captionlab.reports.page.facts import facts_of
from captionlab.run_files import PRUNED, RESULTS_VERSION, TRAINED, find_runs


def write_run(
    folder: Path, encoder: str, decoder: str, seed: int, cider: float | None, **config: Any
) -> Path:
    """A run folder; without a score it failed."""
    path = folder / f"{encoder}-{decoder}-{seed}"
    path.mkdir()
    whole = {"encoder": {"name": encoder, "size": len(encoder)}, "decoder": {"name": decoder}}
    (path / "config.yaml").write_text(yaml.safe_dump({**whole, "seed": seed, **config}))
    if cider is None:
        status = {"state": "failed", "error": "DataError: no photo\nmore"}
    else:
        status = {"state": "complete", "error": None}
        result = {
            "scores": {"bleu_1": 0.5, "bleu_4": cider / 4, "cider_d": cider},
            "missing": {"meteor": "no Java was found"},
            "blind": {"cider_d": 0.1},
            "parameters": {"encoder": 42_500_000, "decoder": 1_500_000},
            "seconds": {"encode": 10.0, "train": 20.0, "test": 1.0},
            "epochs": 3,
            "best_epoch": 2,
            "best_validation": {"val/cider_d": cider},
            "num_images": 30,
            "language": {"distinct_captions": 0.5},
            "truth": {"colour": 0.75},
            "human": {"cider_d": 1.5},
            "warnings": [],
            "peak_memory_bytes": 2_000_000_000,
        }
        (path / "result.json").write_text(json.dumps(result))
    (path / "status.json").write_text(json.dumps(status))
    return path


def printed(comparison: Comparison, width: int | None = None) -> str:
    """In a terminal of some width, or a pipe."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=width is not None, color_system=None, highlight=False
    )
    comparison.print_table(console)
    return file.getvalue()


def test_what_warns_of_all_groups_is_said_once(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, encoder, "lstm", 0, 0.4) for encoder in ("vgg", "resnet")]
    for folder, warnings in zip(folders, (["random", "collapsed"], ["random"]), strict=True):
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(result | {"warnings": warnings}))
    notes = Comparison.read(folders).notes
    assert "random" in notes
    assert "vgg: collapsed" in notes


def test_values_are_shown_as_one_writes_them(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, "vgg", "lstm", i, 0.4, search={"size": size, "exact": False})
        for i, size in enumerate((None, True))
    ]
    comparison = Comparison.read(folders)
    assert {group.labels[-1] for group in comparison.groups} == {"null", "true"}
    facts = facts_of(comparison)
    assert {group["config"][-1] for group in facts["groups"]} == {"null", "true"}
    assert facts["equal"]["search.exact"] == "false"


def test_a_name_says_which_settings_its_values_are_of(tmp_path: Path) -> None:
    folders = []
    for i, (size, rate, other) in enumerate([(None, 1, 1), (5, 1, 1), (5, 2, 1), (5, 2, 2)]):
        parts = {"search": {"size": size}, "optimizer": {"rate": rate}, "schedule": {"rate": other}}
        folders.append(write_run(tmp_path, "vgg", "lstm", i, 0.8 - i / 10, **parts))
    best, *_ = groups = Comparison.read(folders).groups
    assert best.name == "vgg lstm optimizer.rate=1 schedule.rate=1 size=null"
    assert best.name_without("optimizer.rate") == "vgg lstm schedule.rate=1 size=null"
    assert len({group.name for group in groups}) == len(folders)


def test_seeds_are_averaged_and_the_best_comes_first(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, "vgg", "lstm", 0, 0.4),
        write_run(tmp_path, "resnet", "lstm", 0, 0.5),
        write_run(tmp_path, "resnet", "lstm", 1, 0.7),
    ]
    comparison = Comparison.read(folders)
    assert comparison.settings == ["encoder.name"], "what a name implies is not told twice"
    assert [group.labels for group in comparison.groups] == [("resnet",), ("vgg",)]
    text = printed(comparison)
    assert "60.0 ±14.1" in text
    assert "meteor: no Java was found" in text


def test_the_lowest_is_marked_as_best_where_fewer_is_better(
    tmp_path: Path, words: type[Metric]
) -> None:
    folders = [write_run(tmp_path, encoder, "lstm", 0, 0.4) for encoder in ("vgg", "resnet")]
    for folder, number in zip(folders, (7.0, 9.0), strict=True):
        result = json.loads((folder / "result.json").read_text())
        result["scores"][words.name] = number
        (folder / "result.json").write_text(json.dumps(result))
    markdown = Comparison.read(folders).table().markdown()
    assert "**7.0**" in markdown
    assert "9.0" in markdown
    assert "**9.0**" not in markdown


def test_a_report_says_how_large_a_difference_its_seeds_show(tmp_path: Path) -> None:
    scores = {"vgg": (0.39, 0.41, 0.40), "resnet": (0.52, 0.50, 0.54), "xception": (0.3,)}
    folders = [
        write_run(tmp_path, encoder, "lstm", seed, score)
        for encoder, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]
    (note,) = (note for note in Comparison.read(folders).notes if "Welch" in note)
    # The deviations are 1 and 2, pooled 1.58; times 3.508 and 2.084.
    assert note == (
        "with 3 seeds per system and a standard deviation of 1.6 CIDEr-D over seeds, Welch's "
        "t-test (p seeds < 0.05) detects a true difference of 5.5 with a power of 80 %; with 5 "
        "seeds, one of 3.3"
    )
    assert not any("Welch" in note for note in Comparison.read(folders[:4:3]).notes)


def varied(tmp_path: Path, name: str, *beam_sizes: Any) -> list[Path]:
    return [
        write_run(tmp_path, "vgg", name, i, 0.1 * i, search={"beam_size": size})
        for i, size in enumerate(beam_sizes)
    ]


def test_a_number_that_was_varied_is_drawn_as_a_curve(tmp_path: Path) -> None:
    runs = varied(tmp_path, "lstm", 1, 3, 5, 5)
    Comparison.read([*runs, *varied(tmp_path, "gru", 1, 10)]).write(tmp_path / "report")
    drawing = (tmp_path / "report" / "comparison.svg").read_text()
    assert "<!-- search.beam_size -->" in drawing
    assert "<!-- lstm -->" in drawing
    assert "<!-- gru -->" in drawing
    with Image.open(tmp_path / "report" / "comparison.png") as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize("sizes", [(1, 3), (1, 3, None), (1, 3, "all")])
def test_two_numbers_or_words_make_no_curve(tmp_path: Path, sizes: tuple[Any, ...]) -> None:
    comparison = Comparison.read(varied(tmp_path, "lstm", *sizes))
    assert "search.beam_size" in comparison.settings
    assert number_varied(comparison.groups) is None


def test_the_number_with_most_values_is_the_one_of_the_curve(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, "vgg", "lstm", i, 0.4, optimizer={"lr": lr}, search={"beam_size": size})
        for i, (lr, size) in enumerate([(0.1, 1), (0.1, 2), (0.2, 3), (0.4, 4)])
    ]
    comparison = Comparison.read(folders)
    assert comparison.settings[number_varied(comparison.groups) or 0] == "search.beam_size"


def test_other_settings_that_differ_are_told(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, "vgg", "lstm", 0, 0.4, optimizer={"lr": 0.1}),
        write_run(tmp_path, "vgg", "gru", 0, 0.4, optimizer={"lr": 0.1}),
        write_run(tmp_path, "vgg", "gru", 1, 0.4, optimizer={"lr": 0.2}),
    ]
    comparison = Comparison.read(folders)
    assert comparison.settings == ["decoder.name", "optimizer.lr"]
    assert len(comparison.groups) == 3


def test_failed_and_damaged_runs_are_told_and_do_no_harm(tmp_path: Path) -> None:
    damaged = write_run(tmp_path, "vgg", "gru", 0, 0.3)
    (damaged / "result.json").write_text("{")
    folders = [
        write_run(tmp_path, "vgg", "lstm", 0, None),
        damaged,
        tmp_path / "absent",
        write_run(tmp_path, "resnet", "lstm", 0, 0.5),
    ]
    text = printed(Comparison.read(folders))
    assert "50.0" in text
    assert "no result: vgg-lstm-0: DataError: no photo\n" in text
    assert "result.json is damaged" in text
    assert "no result: absent: not finished (never started)" in text
    assert text.count("no result: ") == 3


def test_trials_of_a_search_without_a_result_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path, "vgg", "lstm", 0, 0.5)
    for seed, reason in enumerate((TRAINED, f"{PRUNED} after epoch 1", "no disk"), 1):
        path = write_run(tmp_path, "vgg", "lstm", seed, None, lr=seed)
        (path / "status.json").write_text(json.dumps({"state": "stopped", "reason": reason}))
    notes = [note for note in Comparison.read(find_runs(tmp_path)).notes if "no result" in note]
    assert len(notes) == 2
    assert notes[1] == "no result: 2 that were pruned, or trained and not tested"


def test_many_runs_without_a_result_for_one_reason_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path, "vgg", "lstm", 0, 0.5)
    for seed in range(1, 5):
        path = write_run(tmp_path, "vgg", "lstm", seed, None)
        (path / "status.json").write_text(json.dumps({"state": "queued", "reason": None}))
    write_run(tmp_path, "vgg", "gru", 0, None)
    notes = [note for note in Comparison.read(find_runs(tmp_path)).notes if "no result" in note]
    assert sorted(notes) == [
        "no result: 4 runs, such as vgg-lstm-1: not finished (queued)",
        "no result: vgg-gru-0: DataError: no photo",
    ]


def test_a_seed_without_a_result_is_not_counted(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, "vgg", "lstm", 0, 0.4),
        write_run(tmp_path, "vgg", "lstm", 1, 0.6),
        write_run(tmp_path, "vgg", "lstm", 2, None),
        write_run(tmp_path, "vgg", "gru", 0, 0.3),
    ]
    comparison = Comparison.read(folders)
    assert [group.num_seeds for group in comparison.groups] == ["2 of 3", "1"]
    assert "| lstm | 2 of 3 | **50.0 ±14.1** |" in comparison.table().markdown()
    rows = list(csv.DictReader(io.StringIO(comparison.runs_table().csv())))
    assert [row["state"] for row in rows] == ["complete", "complete", "failed", "complete"]


def test_a_failed_run_adds_no_column_and_no_seed(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, "vgg", "lstm", 0, 0.4, weights="none"),
        write_run(tmp_path, "vgg", "lstm", 1, None, weights="/no.pth"),
    ]
    comparison = Comparison.read(folders)
    assert comparison.settings == ["encoder.name", "decoder.name"]
    assert [group.num_seeds for group in comparison.groups] == ["1"]
    assert "seeds" not in printed(comparison)
    assert "no result: vgg-lstm-1: DataError: no photo" in printed(comparison)


def test_a_killed_run_is_told_as_unfinished(tmp_path: Path) -> None:
    killed = write_run(tmp_path, "vgg", "lstm", 0, None)
    (killed / "status.json").write_text(json.dumps({"state": "running", "reason": None}))
    os.utime(killed / "status.json", (0, 0))  # the last heartbeat
    text = printed(Comparison.read([killed, write_run(tmp_path, "resnet", "lstm", 0, 0.5)]))
    assert "was killed, or its machine died; run the same command again to resume" in text


def test_files_are_equal_for_equal_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    folders = [write_run(runs, "vgg", d, s, 0.3 + s) for d in ("lstm", "gru") for s in (0, 1)]
    written = [Comparison.read(folders).write(tmp_path / name) for name in ("one", "two")]
    names = ["index.html", "results.csv", "results.md", "comparison.png", "comparison.svg"]
    assert [path.name for path in written[0]] == names
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    rows = list(csv.DictReader(written[0][1].open()))
    assert len(rows) == 4
    assert {float(row["cider_d"]) for row in rows} == {0.3, 1.3}
    assert written[0][3].read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_tables_fit_the_terminal(tmp_path: Path, width: int) -> None:
    folders = [
        write_predictions(write_run(tmp_path, encoder, decoder, seed, 0.5), 0.0)
        for encoder in ("resnet101", "efficientnet_v2_s")
        for decoder in ("lstm", "stacked_gru")
        for seed in (0, 1)
    ]
    text = printed(Comparison.read(folders), width)
    tables = [line for line in text.splitlines() if line[:1] in "│┃"]
    assert max(map(len, tables)) <= width
    assert "50.0 ±0.0" in text
    assert ("too narrow for: " in text) == (width < 200)


def test_scores_on_pythons_tokens_are_shown_under_their_own_names(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "vgg", "lstm", 0, 0.4)
    value = json.loads((folder / "result.json").read_text())
    for part in ("scores", "blind", "human"):
        value[part] = {f"{name}_pyptb": number for name, number in value[part].items()}
    (folder / "result.json").write_text(json.dumps(value))
    other = write_run(tmp_path, "resnet", "lstm", 0, 0.1)
    comparison = Comparison.read([folder, other])
    assert [group.labels for group in comparison.groups] == [("resnet",), ("vgg",)]
    titles = [column.title for column in comparison.table().columns]
    assert titles[1] == "CIDEr-D"
    assert "CIDEr-D (Python's tokens)" in titles
    assert "blind CIDEr-D (Python's tokens)" in titles


def test_a_score_of_another_package_is_a_column(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "vgg", "lstm", 0, 0.4)
    value = json.loads((folder / "result.json").read_text())
    value["scores"]["clip_s"] = 0.7
    (folder / "result.json").write_text(json.dumps(value))
    written = {path.name: path for path in Comparison.read([folder]).write(tmp_path / "report")}
    assert "| clip_s |" in written["results.md"].read_text()
    assert "clip_s" in written["results.csv"].read_text().splitlines()[0].split(",")


def write_predictions(run: Path, shift: float, num_images: int = 30) -> Path:
    """What each image got: CIDEr-D random, better by `shift`."""
    rng = random.Random(run.name)
    rows = [
        {
            "image_id": f"{i}.jpg",
            "caption": "a dog",
            "scores": {"bleu_4": 0.2, "cider_d": rng.gauss(0.5 + shift, 0.1)},
            "statistics": {"bleu": [5, 4, 3, rng.randint(1, 2), 8, 7, 6, 5, 8, 8]},
        }
        for i in range(num_images)
    ]
    (run / "predictions.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return run


def test_real_differences_are_told_apart_from_chance(tmp_path: Path) -> None:
    folders = [
        write_predictions(write_run(tmp_path, "resnet", "lstm", 0, 0.9), 0.4),
        write_predictions(write_run(tmp_path, "resnet", "lstm", 1, 0.9), 0.4),
        write_predictions(write_run(tmp_path, "vgg", "lstm", 0, 0.5), 0.0),
        write_predictions(write_run(tmp_path, "vgg", "lstm", 1, 0.51), 0.0),
        write_predictions(write_run(tmp_path, "xception", "lstm", 0, 0.89), 0.4),
    ]
    comparison = Comparison.read(folders)
    text = printed(comparison)
    assert "Differences from resnet" in text
    (vgg,) = (line for line in text.splitlines() if line.startswith("│ vgg") and "[" in line)
    assert vgg.count("< 0.001") == 1, "CIDEr-D over images"
    (other,) = (line for line in text.splitlines() if line.startswith("│ xcep") and "[" in line)
    assert "< 0.001" not in other
    written = {path.name: path for path in comparison.write(tmp_path / "report")}
    rows = list(csv.DictReader(written["significance.csv"].open()))
    (seeds,) = (
        float(row["p_seeds"])
        for row in rows
        if (row["first"], row["second"], row["score"]) == ("resnet", "vgg", "cider_d")
    )
    assert seeds < 0.01
    pairs = {(row["first"], row["second"]) for row in rows if row["second"]}
    assert pairs == {("resnet", "xception"), ("resnet", "vgg"), ("xception", "vgg")}
    intervals = [row for row in rows if not row["second"] and row["score"] == "cider_d"]
    assert len(intervals) == 3
    markdown = written["results.md"].read_text()
    assert "## Which differences are real" in markdown
    assert "| *people* |" in markdown
    assert "| vgg | 75.0 ±0.0 |" in markdown, "what is true of the scene"


def test_runs_on_other_images_are_not_tested_against_each_other(tmp_path: Path) -> None:
    folders = [
        write_predictions(write_run(tmp_path, "resnet", "lstm", 0, 0.9), 0.4, 30),
        write_predictions(write_run(tmp_path, "vgg", "lstm", 0, 0.5), 0.0, 29),
    ]
    assert Comparison.read(folders).differences is None
    (folders[0] / "predictions.jsonl").write_text("{")
    assert Comparison.read(folders).differences is None


def test_why_there_are_no_intervals_is_said(tmp_path: Path) -> None:
    folders = [
        write_predictions(write_run(tmp_path, "resnet", "lstm", 0, 0.9), 0.4, 30),
        write_predictions(write_run(tmp_path, "vgg", "lstm", 0, 0.5), 0.0, 29),
    ]
    assert "no intervals and tests: the runs scored different images" in printed(
        Comparison.read(folders)
    )
    (folders[0] / "predictions.jsonl").write_text("{")
    assert "predictions.jsonl, line 1 is damaged" in printed(Comparison.read(folders))


def test_runs_without_a_common_score_are_shown_and_not_tested(tmp_path: Path) -> None:
    folders = [
        write_predictions(write_run(tmp_path, name, "lstm", 0, 0.9), 0.4)
        for name in ("vgg", "resnet")
    ]
    path = folders[0] / "predictions.jsonl"  # of a machine without Java
    renamed = path.read_text().replace("cider_d", "cider_d_pyptb").replace("bleu", "bleu_pyptb")
    path.write_text(renamed.replace("bleu_pyptb_4", "bleu_4_pyptb"))
    comparison = Comparison.read(folders)
    assert "the runs have no score in common" in printed(comparison)
    comparison.write(tmp_path / "report")


def claim(run: Path, command: str = "", **identity: Any) -> Path:
    """Write the manifest: what makes the run's result, and its command."""
    whole = {"results_version": RESULTS_VERSION, **identity}
    manifest = {"identity": whole, "command": ["run.py", *command.split()]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def test_what_has_no_effect_on_the_result_does_not_part_seeds(tmp_path: Path) -> None:
    folders = []
    for seed in (0, 1):
        run = write_run(tmp_path, "vgg", "lstm", seed, 0.5, data={"num_workers": seed})
        folders.append(claim(run, encoder={"name": "vgg"}, decoder={"name": "lstm"}, seed=seed))
    (group,) = Comparison.read(folders).groups
    assert group.num_seeds == "2"


def test_a_file_that_was_replaced_parts_runs(tmp_path: Path) -> None:
    folders = []
    for seed, content in enumerate(("0123456789", "abcdefabcd")):
        run = write_run(tmp_path, "vgg", "lstm", seed, 0.5, data={"features": "/x/made.npz"})
        folders.append(claim(run, encoder={"name": "vgg"}, data={"features": content}))
    comparison = Comparison.read(folders)
    labels = sorted(group.labels[-1] for group in comparison.groups)
    assert comparison.settings[-1] == "data.features"
    assert labels == ["made.npz (01234567)", "made.npz (abcdefab)"]


def test_runs_that_start_from_the_seeds_of_one_run_are_seeds_of_one_run(tmp_path: Path) -> None:
    folders = []
    for base, cider in (("lstm", 0.5), ("gru", 0.6)):
        for seed in (0, 1):
            source = claim(
                write_run(tmp_path, "vgg", base, seed, cider), decoder={"name": base}, seed=seed
            )
            path = str(source) if seed else f"as/seen/elsewhere/{source.name}"
            run = write_run(tmp_path, f"later-{base}", "x", seed, cider, init_from=path)
            folders.append(claim(run, decoder={"name": "x"}, init_from=source.name, seed=seed))
    comparison = Comparison.read(folders)
    assert [group.num_seeds for group in comparison.groups] == ["2", "2"]
    assert comparison.settings[-1] == "init_from"
    (folders[0] / "config.yaml").write_text("[")  # its manifest still names a source
    assert "config.yaml cannot be read" in printed(Comparison.read(folders))


def test_the_setting_that_was_given_is_named_and_not_one_that_follows_from_it(
    tmp_path: Path,
) -> None:
    folders = []
    for size in (64, 128):
        run = write_run(tmp_path, "vgg", "lstm", size, 0.5)
        decoder = {"name": "lstm", "embedding_dim": size, "hidden_dim": size}
        claim(run, f"decoder.hidden_dim={size}", encoder={"name": "vgg"}, decoder=decoder)
        folders.append(run)
    comparison = Comparison.read(folders)
    assert comparison.settings[-1] == "decoder.hidden_dim"
    assert facts_of(comparison)["different"][0] == "decoder.hidden_dim"


def test_runs_of_different_data_sets_are_compared_apart(tmp_path: Path) -> None:
    flickr, drawn, other = (
        {"name": "flickr8k"},
        {"name": "shapes", "num_test": 3},
        "shapes-other999",
    )
    runs = {
        write_run(tmp_path, "vgg", "lstm", 0, 0.4, data=flickr): "f",
        write_run(tmp_path, "vgg", "lstm", 1, 0.9, data=drawn): "drawn111111",
        write_run(tmp_path, "resnet", "lstm", 1, 0.8, data=drawn): "drawn111111",
        write_run(tmp_path, "vgg", "gru", 0, 0.7, data={**drawn, "num_test": 9}): "other999999",
    }
    for folder, corpus in runs.items():
        (folder / "manifest.json").write_text(json.dumps({"corpus": corpus}))
    failed = write_run(tmp_path, "resnet", "gru", 0, None, data=drawn)
    comparisons = {c.data: c for c in Comparison.read_each([*runs, failed])}
    assert comparisons.keys() == {"flickr8k", "shapes-drawn111", other}
    assert [len(c.runs) for c in comparisons.values()] == [1, 3, 1], "a failed run joins its data"
    assert "Test split of flickr8k" in printed(comparisons["flickr8k"])
    (one,) = Comparison.read_each([folder for folder in runs if runs[folder] == "drawn111111"])
    assert one.data == "shapes"


def test_what_is_true_of_the_scene_stands_beside_the_scores(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "vgg", "lstm", 0, 0.4)
    value = json.loads((folder / "result.json").read_text())
    value["truth"]["all"] = 0.123
    (folder / "result.json").write_text(json.dumps(value))
    comparison = Comparison.read([folder])
    assert "12.3" in printed(comparison, 80)
    titles = [column.title for column in comparison.table().columns]
    assert titles.index("CIDEr-D") < titles.index("true captions")


def test_brackets_and_control_codes_in_names_are_shown_as_they_are(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "vgg", "lstm", 0, 0.4)
    config = {"encoder": {"name": "[/x]"}, "decoder": {"name": "a\x1b[31m"}, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    text = printed(Comparison.read([folder]), 80)
    assert "[/x]" in text
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_of_many_systems_those_with_the_best_are_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionlab.reports.differences._MOST_PAIRED", 2)
    folders = [
        write_predictions(write_run(tmp_path, encoder, "lstm", 0, cider), cider)
        for encoder, cider in (("a", 0.1), ("b", 0.5), ("c", 0.3))
    ]
    differences = Comparison.read(folders).differences
    assert differences is not None
    rows = list(csv.DictReader(io.StringIO(differences.every_pair().csv())))
    pairs = {(row["first"], row["second"]) for row in rows if row["second"]}
    assert pairs == {("b", "a"), ("b", "c")}


def test_of_many_equal_systems_the_best_is_seldom_called_better() -> None:
    """The best is chosen on the images that it is tested on: its lead is partly luck."""
    found = []
    for repetition in range(12):
        values = np.random.default_rng(repetition).normal(1.0, 0.3, (40, 60))
        values = values[values.mean(1).argsort()[::-1]]
        systems = [[CorpusStatistics({"cider_d": row.tolist()}, {})] for row in values]
        tests = Differences([str(i) for i in range(40)], systems).tests
        assert len(tests) == 39
        found.append(any((test.p_randomisation or 0.0) < 0.05 for test in tests))
    assert sum(found) <= 2


def test_of_many_systems_one_that_is_better_is_called_so() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.3, (40, 60))
    values[0] += 0.5
    systems = [[CorpusStatistics({"cider_d": row.tolist()}, {})] for row in values]
    tests = Differences([str(i) for i in range(40)], systems).tests
    assert all(test.p_randomisation is not None and test.p_randomisation < 0.05 for test in tests)


def test_a_comparison_without_any_result_is_written(tmp_path: Path) -> None:
    written = Comparison.read([write_run(tmp_path, "vgg", "lstm", 0, None)]).write(tmp_path / "r")
    assert [path.name for path in written] == ["index.html", "results.csv", "results.md"]


def test_reading_reports_brings_no_torch() -> None:
    import subprocess
    import sys

    code = "import captionlab.reports, sys; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
