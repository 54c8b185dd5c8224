"""`captionlab.runs`: results as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

import captionlab
from captionlab.errors import RunError
from captionlab.runs.folder import RunFolder
from tests.support.results import Results


def test_rows_have_settings_that_differ_scores_and_costs(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for name, decoder in (("a", "lstm"), ("b", "gru")):
        results.run(name, decoder)
    RunFolder(tmp_path / "c").set_state("failed", "no disk")
    rows = captionlab.runs(tmp_path)
    assert [Path(row["folder"]).name for row in rows] == ["a-lstm-s0", "b-gru-s0", "c"]
    assert [row["state"] for row in rows] == ["complete", "complete", "failed"]
    assert [row["decoder.name"] for row in rows] == ["lstm", "gru", None]
    assert rows[0]["cider_d"] > 0
    assert rows[0]["seconds_train"] is not None
    assert "no disk" in rows[2]["reason"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_libraries_of_tables_take_the_rows(tmp_path: Path, library: str) -> None:
    tables = pytest.importorskip(library)
    results = Results(tmp_path)
    results.run("a", "lstm")
    RunFolder(tmp_path / "c").set_state("failed", "no disk")
    rows = captionlab.runs(tmp_path)
    table = tables.DataFrame(rows)
    assert list(table.columns) == list(rows[0])
    assert len(table) == 2


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there are no runs in"):
        captionlab.runs(tmp_path)
