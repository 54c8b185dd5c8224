"""The notebooks run from the first cell to the last, and are stored without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def script(notebook: Path) -> str:
    """The code of all cells as Python has it, with shell commands run by the shell."""
    lines = ["import subprocess"]
    for cell in code_cells(notebook):
        for line in "".join(cell["source"]).splitlines():
            command = line.removeprefix("!")
            is_command = command != line
            lines.append(
                f"subprocess.run({command!r}, shell=True, check=True)" if is_command else line
            )
    return "\n".join(lines)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_one_starts_with_it(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    compile(script(notebook), notebook.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    scripts = str(Path(sys.executable).parent)
    done = subprocess.run(
        [sys.executable, "-c", script(notebook)],
        cwd=tmp_path,
        env=os.environ
        | {"MPLBACKEND": "Agg", "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line for line in done.stdout.splitlines() if "(blind " in line]
    assert len(answers) == 2, "a line for each model"
