"""A disk that is full at every place where a run writes, one after another."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from captionlab.run_files import RunFiles
from tests.e2e.test_sweeps import SMALL
from tests.support import full_disk
from tests.support.full_disk import Place
from tests.support.processes import with_defaults


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process that has not trained, in whose forks torch trains."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        yield executor


def train(
    pool: ProcessPoolExecutor, root: Path, full_at: Place | None = None, *more: str
) -> tuple[int, str, list[Place]]:
    options = with_defaults(SMALL, ["trainer.max_epochs=2", "logger=tensorboard"])
    places = [f"runs_dir={root}/runs", f"cache_dir={root}/data"]
    arguments = [*options, *places, *more]
    return pool.submit(full_disk.run, arguments, root, full_at).result(timeout=300)


def outcome(root: Path) -> tuple[Any, ...]:
    (path,) = (root / "runs" / "shapes").glob("*/status.json")
    files = RunFiles(path.parent)
    assert files.condition == "complete"
    result = json.loads(files.result_path.read_text())
    del result["seconds"], result["peak_memory_bytes"]
    with files.metrics_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return result, files.predictions_path.read_text(), rows


def leftovers(root: Path) -> list[Path]:
    return [*root.rglob("*.tmp"), *root.rglob(".*.owner"), *root.rglob(".owner")]


def first_and_last(places: Sequence[Place]) -> list[Place]:
    """Of every kind of file."""
    last = {place.name: place for place in places}
    return sorted({*last.values(), *(Place(name, 1) for name in last)})


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_repeat_is_as_undisturbed(
    tmp_path: Path, pool: ProcessPoolExecutor
) -> None:
    code, output, places = train(pool, tmp_path / "whole" / "disk")
    assert code == 0, output
    expected = outcome(tmp_path / "whole" / "disk")
    names = " ".join(place.name for place in places)
    for name in ("metrics.csv", "status.json", "last.ckpt", "best.ckpt", "grid.npy", "result.json"):
        assert name in names, names
    faults = []
    for place in first_and_last(places):
        root = tmp_path / "full" / "disk"
        code, output, _ = train(pool, root, place)
        lines = [line for line in output.splitlines() if "No space left" in line]
        if "Traceback" in output or (code == 0) == bool(lines) or len(lines) > 1:
            faults.append(f"{place}: exit status {code}\n{output[-1500:]}")
        again, output, _ = train(pool, root)
        if again != 0 or outcome(root) != expected:
            faults.append(f"{place}: repeat is other, exit status {again}\n{output[-1500:]}")
        print(place, code, lines, flush=True)
        faults += [f"{place} left {path}" for path in leftovers(root)]
        shutil.rmtree(root.parent)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_sweep_is_reported_is_one_line(
    tmp_path: Path, pool: ProcessPoolExecutor
) -> None:
    root = tmp_path / "disk"
    assert train(pool, root)[0] == 0
    code, output, places = train(pool, root, None, "-m")
    assert code == 0, output
    assert Place("multirun.yaml", 1) in places
    for place in first_and_last(places):
        shutil.rmtree(root / "runs" / "shapes" / "report", ignore_errors=True)
        code, output, _ = train(pool, root, place, "-m")
        assert code == 1, f"{place}: {output}"
        assert "Traceback" not in output, f"{place}: {output}"
        assert output.count("No space left") == 1, f"{place}: {output}"
    assert train(pool, root, None, "-m")[0] == 0
    assert not leftovers(root)
