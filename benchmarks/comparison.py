"""How long a comparison of many runs takes, and how much memory.

    python benchmarks/comparison.py
    python benchmarks/comparison.py --runs 200 --seeds 1

Makes up finished runs (40 groups of 5 seeds, 1,000 photos, every score and statistic of a real
run), reads them, and writes tables, tests and pictures. Prints CPU-seconds by step.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from captionlab.reports import Comparison

_WORDS = ["a", "brown", "dog", "is", "running", "through", "the", "water", "red", "ball", "snow"]


def made_up_run(folder: Path, group: int, seed: int, num_images: int) -> None:
    """Write a run folder whose captions are as good as its group, by chance of seed and photo."""
    path = folder / f"encoder{group // 8}-decoder{group % 8}-s{seed}"
    path.mkdir(parents=True)
    rng = np.random.default_rng([group, seed])
    config: dict[str, Any] = {
        "encoder": {"name": f"encoder{group // 8}", "image_size": 224, "weights": "imagenet"},
        "decoder": {"name": f"decoder{group % 8}", "hidden_dim": 512, "dropout": 0.5},
        **{f"part{i}": {f"option{k}": i * k for k in range(12)} for i in range(8)},
        "seed": seed,
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "status.json").write_text(json.dumps({"state": "complete", "error": None}))
    lines, ciders = [], []
    for i in range(num_images):
        length = int(rng.integers(7, 13))
        words = [_WORDS[k] for k in rng.integers(0, len(_WORDS), length)]
        correct = sorted(rng.integers(0, length - 2, 4).tolist(), reverse=True)
        matches = int(rng.integers(1, length))
        meteor = [length, length, 3, 3, *[matches, matches, 1, 1], *[1, 1, 0, 0], *[0] * 8]
        meteor += [int(rng.integers(1, 4)), matches, matches]
        scores = {f"bleu_{k + 1}": float(rng.random()) for k in range(4)}
        scores["rouge_l"] = float(rng.random())
        scores["cider_d"] = float(rng.gamma(1.0, 0.5 + 0.01 * group))
        scores["meteor"] = float(rng.random())
        ciders.append(scores["cider_d"])
        bleu = [*correct, *(length - k for k in range(4)), length, length + 1]
        value = {
            "image_id": f"{i:010d}.jpg",
            "caption": " ".join(words),
            "scores": scores,
            "statistics": {"bleu": bleu, "meteor": list(map(float, meteor))},
            "log_probability": -9.5,
            "finished": True,
        }
        lines.append(json.dumps(value))
    (path / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    cider = float(np.mean(ciders))
    result = {
        "scores": {"cider_d": cider, "bleu_4": 0.2, "bleu_1": 0.6, "meteor": 0.2, "rouge_l": 0.5},
        "missing": {},
        "blind": {"cider_d": 0.1, "bleu_4": 0.05},
        "human": {"cider_d": 1.0, "bleu_4": 0.2},
        "language": {"distinct_captions": 0.5},
        "truth": {},
        "warnings": [],
        "num_images": num_images,
        "parameters": {"encoder": 11_000_000, "encoder_trained": 0, "decoder": 5_000_000},
        "seconds": {"encode": 30.0, "train": 100.0, "test": 3.0},
        "epochs": 10,
        "best_epoch": 7,
        "best_validation": {"val/cider_d": cider},
        "peak_memory_bytes": 2_000_000_000,
    }
    (path / "result.json").write_text(json.dumps(result))


def lines(folder: Path, num_runs: int, num_seeds: int, num_images: int) -> Iterator[str]:
    """The report, line by line."""
    for i in range(num_runs):
        made_up_run(folder / "runs", i // num_seeds, i % num_seeds, num_images)
    yield f"{num_runs} runs of {num_seeds} seeds each, {num_images} photos; CPU, all threads:"
    began = time.process_time()
    comparison = Comparison.read(sorted((folder / "runs").iterdir()))
    yield f"  read configurations and results  {time.process_time() - began:6.1f} s"
    step = time.process_time()
    assert comparison.differences is not None
    yield f"  read captions, intervals, tests  {time.process_time() - step:6.1f} s"
    step = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        comparison.print_table()
    comparison.write(folder / "report")
    yield f"  write tables and pictures        {time.process_time() - step:6.1f} s"
    yield f"  all                              {time.process_time() - began:6.1f} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    yield f"  peak memory                      {peak:6.2f} GB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for line in lines(Path(temporary), options.runs, options.seeds, options.images):
            print(line, flush=True)
