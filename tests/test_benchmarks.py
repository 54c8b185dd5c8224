"""The benchmarks run and measure; how large the ratios are is for people to read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs_on_a_cpu_and_says_where_there_is_no_gpu() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py")]
    small = ["--device", "cpu", "--small", "--no-compile"]
    done = subprocess.run([*command, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"[\d.]+ images/s", done.stdout)) == 4, done.stdout
    losses = [float(loss) for loss in re.findall(r"its loss (-?[\d.]+)", done.stdout)]
    assert len(losses) == 7, done.stdout
    # Cross-entropy in fp32, bf16, fp16, and bf16 from pinned memory: of the same batch.
    assert losses[1:4] == pytest.approx(3 * losses[:1], rel=0.02)
    if not torch.cuda.is_available():
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "no GPU here" in done.stdout
