"""How long the page of many runs takes to write and to open, and how large it is.

    python benchmarks/report.py
    python benchmarks/report.py --runs 200 --images 1000 --keep runs/made_up

Makes up finished runs on drawings as large as photos of Flickr8k, writes their report, and, where
playwright and chromium are installed, opens the page. Prints seconds, peak memory and sizes, and
how much of the time goes into the page.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from captionlab.corpora.datasets import Flickr8k
from captionlab.reports import Comparison
from captionlab.reports.page import render

_SIDE = (500, 375)
_WORDS = ["a", "the", "man", "dog", "in", "red", "on", "and", "two", "is", "running", "grass"]


def make_up(folder: Path, num_runs: int, num_images: int) -> list[Path]:
    """Run folders and a data set; captions share most of their words, scores depend on them."""
    rng = random.Random(0)
    root = folder / "data"
    (root / "images").mkdir(parents=True)
    (root / "text").mkdir()
    names = [f"{i:06d}.jpg" for i in range(num_images)]
    generator = np.random.default_rng(0)
    for name in names:
        coarse = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize(_SIDE, Image.Resampling.BICUBIC)
        photo.save(root / "images" / name, quality=90)
    said = {name: [" ".join(rng.choices(_WORDS, k=11)) for _ in range(5)] for name in names}
    tokens = [f"{name}#{i}\t{text}" for name in names for i, text in enumerate(said[name])]
    (root / "text" / "Flickr8k.token.txt").write_text("\n".join(tokens) + "\n")
    for split, listed in (("train", names[:1]), ("dev", names[1:2]), ("test", names[2:])):
        path = root / "text" / f"Flickr_8k.{split}Images.txt"
        path.write_text("\n".join(listed) + "\n")
    corpus = Flickr8k(root).read_all()
    return [_run(folder, i, corpus.fingerprint, said, names[2:]) for i in range(num_runs)]


def _run(
    folder: Path, number: int, fingerprint: str, said: dict[str, list[str]], names: list[str]
) -> Path:
    group, seed = divmod(number, 4)
    path = folder / f"encoder{group // 5}-decoder{group % 5}-s{seed}"
    path.mkdir()
    rng = random.Random(number)
    lines, ciders = [], []
    for name in names:
        words = rng.choice(said[name]).split()
        for _ in range(rng.randint(0, 3)):  # of 200 captions of a photo, about half are distinct
            words[rng.randrange(len(words))] = rng.choice(_WORDS[:6])
        ciders.append(0.4 + 0.01 * group + rng.random())
        scores = {f"bleu_{k}": rng.random() for k in (1, 2, 3, 4)}
        scores |= {"rouge_l": rng.random(), "cider_d": ciders[-1], "meteor": rng.random()}
        statistics = {"bleu": [5, 4, 3, rng.randint(1, 2), 8, 7, 6, 5, 8, 8]}
        statistics["meteor"] = [10, 11, 4, 4, rng.randint(1, 5), 3, 1, 1, *[0] * 12, 2, 5, 5]
        row = {"image_id": name, "caption": " ".join(words), "scores": scores}
        row |= {"statistics": statistics, "log_probability": -9.0, "finished": True}
        lines.append(json.dumps(row))
    cider = sum(ciders) / len(ciders)
    data = {"_target_": "captionlab.corpora.datasets.Flickr8k", "name": "flickr8k"}
    data |= {"root": str(folder / "data"), "dialect": "auto", "split_seed": 0}
    config: dict[str, Any] = {
        "name": "made_up",
        "seed": seed,
        "monitor": "val/cider_d",
        "cache_dir": str(folder),
        "data": data | {"on_bad_image": "error"},
        "encoder": {"name": f"encoder{group // 5}"},
        "decoder": {"name": f"decoder{group % 5}"},
        **{f"part{i}": {f"option{k}": i * k for k in range(10)} for i in range(8)},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "status.json").write_text(json.dumps({"state": "complete", "error": None}))
    manifest = {"corpus": fingerprint, "command": ["run.py"], "versions": {"torch": "2.14"}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    epochs = [f"{i},{i},{cider * (i + 1) / 30},{9 / (i + 1)}" for i in range(30)]
    (path / "metrics.csv").write_text("epoch,step,val/cider_d,val/loss\n" + "\n".join(epochs))
    result = {
        "scores": {"cider_d": cider, "bleu_4": 0.2, "bleu_1": 0.6, "meteor": 0.2, "rouge_l": 0.5},
        "missing": {},
        "blind": {"cider_d": 0.1},
        "human": {"cider_d": 1.0},
        "language": {},
        "truth": {},
        "warnings": [],
        "num_images": len(names),
        "parameters": {"encoder": 1e6 * (group + 1), "encoder_trained": 0, "decoder": 5e6},
        "seconds": {"encode": 30.0, "train": 100.0 + group, "test": 3.0},
        "epochs": 30,
        "best_epoch": 30,
        "best_validation": {"val/cider_d": cider},
        "peak_memory_bytes": 2_000_000_000 + number,
    }
    (path / "result.json").write_text(json.dumps(result))
    (path / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
    """Prints wall- and CPU-seconds of a step."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{step:<34}{wall:8.1f} s {cpu:8.1f} CPU-s")


def open_page(path: Path) -> None:
    """Print when a real browser shows the first content, the table and the first photo."""
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("not opened: there is no chromium, or no playwright")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        begin = time.perf_counter()
        page.goto(path.as_uri(), wait_until="commit")
        page.locator("#table td").first.wait_for()
        print(f"{'table in the browser after':<34}{time.perf_counter() - begin:8.2f} s")
        page.wait_for_load_state("load")
        begin = time.perf_counter()
        page.locator("#gallery").scroll_into_view_if_needed()
        page.locator(".card img").first.wait_for()
        print(f"{'first photo after scrolling':<34}{time.perf_counter() - begin:8.2f} s")
        browser.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the runs there")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = make_up(folder, options.runs, options.images + 2)
        print(f"{options.runs} runs x {options.images} photos")
        with timed("reading configurations, results"):
            comparison = Comparison.read(runs)
        with timed("statistics and tests"):
            assert comparison.differences is not None, comparison.notes[:1]
        with timed("the page"):
            text = render(comparison, options.images)
        print(f"{'size of the page':<34}{len(text.encode()) / 1e6:8.1f} MB")
        with timed("the whole report again"):
            comparison.write(folder / "report", options.images)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"{'peak memory':<34}{peak / 1e9:8.2f} GB")
        open_page((folder / "report" / "index.html").resolve())


if __name__ == "__main__":
    main()
