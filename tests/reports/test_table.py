"""A table fits the terminal without cutting a number, and says what it leaves out."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from captionlab.reports.table import Cell, Column, Row, Table

SCORES = ["CIDEr-D", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L"]
COSTS = ["blind CIDEr-D", "encoder M params", "decoder M params", "encode s", "train s", "peak GB"]
NUMBERS = [f"{10 + i}.{i % 10} ±{i}.{i % 10}" for i in range(len(SCORES + COSTS))]
TABLE = Table(
    "Test split, scores x100, mean over seeds ± standard deviation",
    [
        Column("encoder", is_text=True),
        Column("decoder", is_text=True),
        Column("CIDEr-D"),
        *(Column(title, priority=50 - i) for i, title in enumerate(SCORES[1:] + COSTS)),
    ],
    [
        Row(["resnet101", "stacked_lstm", *(Cell(number, True) for number in NUMBERS)]),
        Row(["people", "", *[""] * len(NUMBERS)], is_aside=True),
    ],
)


def printed(table: Table, width: int, terminal: bool = True) -> list[str]:
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=terminal, color_system=None)
    table.print(console)
    assert console.width == width
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_what_does_not_fit_is_left_out_and_named(width: int) -> None:
    lines = printed(TABLE, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    shown = [number for number in NUMBERS if number in text]
    assert shown == NUMBERS[: len(shown)], "the lowest priorities are dropped, and no cell is cut"
    assert len(shown) >= {80: 3, 100: 5, 120: 7, 200: 13}[width]
    for word in ("resnet101", "stacked_lstm", "CIDEr-D"):
        assert word in text
    dropped = (SCORES + COSTS)[len(shown) :]
    note = " ".join(text.split("too narrow for: ")[1:]).split()
    assert " ".join(note) == ", ".join(dropped)


def test_a_pipe_gets_everything() -> None:
    text = "\n".join(printed(TABLE, 80, terminal=False))
    assert all(number in text for number in NUMBERS)
    assert "too narrow" not in text


def test_columns_of_one_priority_go_together() -> None:
    columns = [Column("system", is_text=True), Column("a"), Column("b", priority=1)]
    columns += [Column("p b", priority=1), Column("c", priority=2)]
    lines = printed(Table("", columns, [Row(["x", *["9" * 15] * 4])]), 60)
    assert lines[-1] == "too narrow for: b, p b"


def test_text_is_folded_before_a_number_is_dropped() -> None:
    columns = [Column("name", is_text=True), Column("images", priority=0)]
    lines = printed(Table("", columns, [Row(["word " * 30 + "x" * 90, "8,000"])]), 80)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "8,000" in text
    assert (text.count("word"), text.count("x")) == (30, 90), "nothing is cut"


@pytest.mark.parametrize("width", [80, 120])
def test_many_settings_with_long_values_still_fit(width: int) -> None:
    columns = [Column(f"group.setting_{i}", is_text=True) for i in range(6)]
    rows = [Row([*["/data/weights/of/some/encoder.pth"] * 6, "52.1 ±0.3"])]
    lines = printed(Table("", [*columns, Column("CIDEr-D")], rows), width)
    assert max(map(len, lines)) <= width
    assert "52.1 ±0.3" in "\n".join(lines)


def test_markdown_and_csv_have_every_column() -> None:
    columns = [Column("a|b", is_text=True), Column("n", priority=0)]
    table = Table("", columns, [Row(["x\ny", Cell("1", True)]), Row(["z", "2"], is_aside=True)])
    assert table.markdown().splitlines() == [
        *("| a\\|b | n |", "|:--|--:|", "| x<br>y | **1** |", "| *z* | 2 |")
    ]
    assert list(csv.reader(io.StringIO(table.csv()))) == [["a|b", "n"], ["x\ny", "1"], ["z", "2"]]
