"""Which targets of `evaluate` belong together, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from captionlab.cli import main
from captionlab.cli.evaluate import _groups
from captionlab.errors import ConfigError


def test_files_of_a_group_are_seeds_of_one_system(tmp_path: Path) -> None:
    run = tmp_path / "vgg-lstm-0a1b2c"
    run.mkdir()
    groups = _groups([Path("a.json"), run], ["init=x/1.txt,x/2.txt"])
    assert groups == {
        "a": {"a": Path("a.json")},
        "vgg-lstm": {run.name: run},
        "init": {"init-1": Path("x/1.txt"), "init-2": Path("x/2.txt")},
    }


@pytest.mark.parametrize("group", ["init", "=a.txt", "init=", "init=a.txt,,b.txt"])
def test_a_group_that_cannot_be_read_is_refused(group: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=FILE,FILE"):
        _groups([], [group])


@pytest.mark.parametrize(
    ("targets", "groups"),
    [
        ([], ["init=x/1.txt,y/1.txt"]),
        (["a.json", "b/a.json"], []),
        (["init.json"], ["init=1.txt,2.txt"]),
        ([], ["init=1.txt", "init=2.txt"]),
    ],
)
def test_names_of_systems_and_files_are_distinct(targets: list[str], groups: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"different names.*would be named alike: .*, "):
        _groups([Path(target) for target in targets], groups)


def test_folders_are_named_whole(tmp_path: Path) -> None:
    """They have no suffix, though a point may be in their names."""
    targets = [tmp_path / f"lr0.00{i}" for i in (1, 2)]
    for target in targets:
        target.mkdir()
    assert list(_groups(targets, [])) == ["lr0.001", "lr0.002"]


def test_captions_are_scored_without_photos_and_over_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        f"{i}.jpg,a {word} dog runs over grass {i}" for i, word in enumerate("abcdef") for _ in "xy"
    ]
    (data / "captions.csv").write_text(
        "\n".join(["image,caption,split", *(f"{r},test" for r in rows)])
    )
    (tmp_path / "list").write_text("\n".join(f"{i}.jpg" for i in range(6)))
    for seed in (1, 2):
        for system, text in (("good", f"a dog runs {seed}"), ("bad", f"{seed} cats")):
            (tmp_path / f"{system}_{seed}.txt").write_text("\n".join([text] * 6))
    groups = [f"--group={s}={tmp_path}/{s}_1.txt,{tmp_path}/{s}_2.txt" for s in ("good", "bad")]
    more = [f"--data={data}", f"--images={tmp_path}/list", "--tokenizer=python"]
    assert main(["evaluate", *groups, *more, f"--out={tmp_path}/out"]) == 0
    text = capsys.readouterr().out
    assert "p seeds" in text
    assert (tmp_path / "out" / "good-good_2-data-test-tokenizer=python" / "scores.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{a}", "--data={data}", "--samples=3"], "--samples, --retrieval and --set need a model"),
        (["{a}", "--data={data}", "--retrieval=-5"], "--retrieval must be at least 2, found -5"),
        (["{run}", "--samples=1"], "--samples must be at least 2, found 1"),
        (["--ensemble", "{run}", "{run}", "--samples=-1"], "--samples must be at least 2"),
        (["{run}", "--images=list.txt"], "--images names the photos of a text file's lines"),
        (
            ["{a}", "--data={data}", "--images=x"],
            "--images names the photos of a text file's lines",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "a.json").write_text("[]")
    places = {"a": tmp_path / "a.json", "data": tmp_path, "run": tmp_path}
    assert main(["evaluate", *(text.format(**places) for text in arguments)]) == 1
    assert message in capsys.readouterr().err
