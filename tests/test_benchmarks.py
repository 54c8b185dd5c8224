"""The benchmarks run and measure; how large the ratios are is for people to read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = {
    "decoders": ["--quick"],
    "self_critical": ["--images", "40", "--words", "60", "--batch", "4"],
    "scores": ["--images", "40"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_ratios_of_equal_results(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *SMALL[name]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ratios = [float(ratio) for ratio in re.findall(r"([\d.]+)x\b", done.stdout)]
    assert len(ratios) >= 3, done.stdout
    assert min(ratios) > 0, done.stdout
    assert not re.search(r"UNEQUAL|False", done.stdout), done.stdout
