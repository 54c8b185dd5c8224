"""The tables of `evaluate`, for any number of systems at any width."""

from __future__ import annotations

import io
import random

import pytest
from rich.console import Console

from captionlab.evaluation.result import Evaluation, Prediction, Result
from captionlab.metrics.protocol import Metric
from captionlab.reports.evaluation import System, print_evaluations


def evaluation(name: str, quality: float) -> Evaluation:
    rng = random.Random(name)
    rows = [
        Prediction(
            f"{i}.jpg",
            "a dog",
            {"cider_d": rng.gauss(quality, 0.3), "bleu_4": 0.1},
            {"bleu": [5, 4, 3, rng.randint(1, 2), 8, 7, 6, 5, 8, 8]},
        )
        for i in range(30)
    ]
    scores = {"cider_d": quality, **{f"bleu_{k}": quality / k for k in (1, 2, 3, 4)}}
    scores |= {"meteor": 0.2, "rouge_l": 0.4}
    result = Result(
        scores=scores,
        missing={"spice": "no jars"},
        blind={"cider_d": 0.05},
        human={"cider_d": 0.9},
        language={
            "distinct_captions": 0.5,
            "mean_length": 10.2,
            "novel_captions": 0.9,
            "vocabulary_used": float(round(100 * quality) ** 2),
        },
        truth={"all": 0.25},
        warnings=[f"{name} collapsed [/x]\x1b[31m"],
        num_images=30,
    )
    return Evaluation(name, "data-test", result, rows, [])


def printed(systems: list[System], width: int | None) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=width or 160, force_terminal=width is not None, color_system=None
    )
    print_evaluations(systems, console)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_thirteen_systems_fit_the_terminal(width: int) -> None:
    names = [f"some_quite_long_name_of_a_system_{i}" for i in range(13)]
    systems = [System(name, [evaluation(name, 0.5 + i / 100)]) for i, name in enumerate(names)]
    text = printed(systems, width)
    tables = [line for line in text.splitlines() if line[:1] in "│┃"]
    assert max(map(len, tables)) <= width
    for i in range(13):
        assert f"{50 + i}.0" in text
    assert "90.0" in text, "people"
    assert text.count("spice is missing: no jars") == 1
    assert "collapsed [/x]\\x1b[31m" in text


def test_a_pipe_gets_every_column_and_a_mark_at_the_best() -> None:
    systems = [System(name, [evaluation(name, value)]) for name, value in (("x", 0.5), ("y", 0.6))]
    text = printed(systems, None)
    assert "too narrow" not in text
    assert "60.0*" in text
    assert "50.0*" not in text


def test_the_mark_is_at_the_lowest_where_fewer_is_better(words: type[Metric]) -> None:
    systems = []
    for name, number in (("x", 7.0), ("y", 9.0)):
        one = evaluation(name, 0.5)
        one.result.scores[words.name] = number
        systems.append(System(name, [one]))
    text = printed(systems, None)
    assert "7.0*" in text
    assert "9.0" in text
    assert "9.0*" not in text


def test_seeds_of_a_system_are_averaged_and_tested_over_seeds() -> None:
    systems = [
        System(name, [evaluation(f"{name}{k}", quality + k / 50) for k in range(3)])
        for name, quality in (("init", 0.3), ("merge", 0.9))
    ]
    text = printed(systems, None)
    assert "92.0 ±2.0*" in text
    assert "32.0 ±2.0" in text
    assert "1027" in text, "words used by the first, 1026.67 in the mean"
    (header,) = (line for line in text.splitlines() if line.count("images") > 1 and "┃" in line)
    assert "seeds" in header
    (row,) = (line for line in text.splitlines() if line.startswith("│ init") and "[" in line)
    assert "< 0.001" in row
