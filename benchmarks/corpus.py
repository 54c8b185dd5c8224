"""How long a data set of COCO's size takes from its JSON to a vocabulary, and how much memory.

    python benchmarks/corpus.py

Writes the organisers' layout in a temporary folder, with 123,287 empty photos and 616,767 captions
of words drawn by Zipf's law, and a tenth of it; each is identified (a second time, from the cache),
read, tokenised and counted in a process of its own, on one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path

from captionlab.corpora.datasets import COCO
from captionlab.text import PTBTokenizer, Vocabulary

NUM_IMAGES, NUM_CAPTIONS, VALIDATION_SHARE = 123_287, 616_767, 0.0406  # val2017: 5,000 images


def write(root: Path, num_images: int, num_captions: int) -> None:
    """Write the data set; made-up words, so that the vocabulary is as large as COCO's."""
    rng = random.Random(0)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(30_000)]
    weights = list(accumulate(1 / (i + 1) for i in range(len(words))))
    (root / "annotations").mkdir(parents=True)
    num_val = round(num_images * VALIDATION_SHARE)
    parts = {"train": range(num_val, num_images), "val": range(num_val)}
    for split, images in parts.items():
        (root / f"{split}2017").mkdir()
        for image in images:
            (root / f"{split}2017" / f"{image:012d}.jpg").touch()
        ids = list(images) * 5
        if split == "train":  # some have more
            ids += rng.choices(images, k=num_captions - 5 * num_images)
        content = {
            "images": [{"id": i, "file_name": f"{i:012d}.jpg", "license": 1} for i in images],
            "annotations": [
                {"image_id": image, "id": number * 10 + len(split), "caption": caption}
                for number, image in enumerate(ids)
                for caption in [
                    " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(7, 13))) + "."
                ]
            ],
        }
        file = root / "annotations" / f"captions_{split}2017.json"
        file.write_text(json.dumps(content))
        os.utime(file, (1e9, 1e9))  # of a file written a moment ago nothing is kept


def measure(root: Path) -> tuple[dict[str, float], str]:
    """CPU-seconds of each step, wall-seconds and peak memory in GB; a summary of the corpus."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.perf_counter()
    marks = [time.process_time()]
    dataset = COCO(root, cache_dir=root.parent / "cache")
    dataset.identity()
    marks.append(time.process_time())
    dataset.identity()
    marks.append(time.process_time())
    corpus = dataset.read()
    marks.append(time.process_time())
    tokenizer = PTBTokenizer()
    tokenized = {
        split: [tokenizer(caption) for image in images for caption in image.captions]
        for split, images in corpus.splits.items()
    }
    marks.append(time.process_time())
    vocabulary = Vocabulary.build(tokenized["train"], min_count=5, max_size=None)
    marks.append(time.process_time())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = dict(
        zip(
            ("identify", "identify again", "read", "tokenise", "count"),
            (b - a for a, b in pairwise(marks)),
            strict=True,
        )
    )
    steps["wall"] = time.perf_counter() - began
    steps["GB"] = peak / (1e9 if sys.platform == "darwin" else 1e6)
    summary = (
        f"{len(corpus.images)} images, {sum(map(len, tokenized.values()))} captions, "
        f"{len(vocabulary)} words"
    )
    return steps, summary


def lines() -> Iterator[str]:
    """The measurements, line by line."""
    seconds = {}
    for tenth in (True, False):
        share = 0.1 if tenth else 1.0
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "coco", round(NUM_IMAGES * share), round(NUM_CAPTIONS * share))
            # Spawned: a forked process would count the memory for writing the files.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                steps, summary = pool.submit(measure, Path(folder) / "coco").result()
        wall, peak = steps.pop("wall"), steps.pop("GB")
        seconds[tenth] = sum(steps.values())
        parts = ", ".join(f"{name} {value:.1f}" for name, value in steps.items())
        yield f"{summary}: {wall:.1f} s, {peak:.2f} GB at its peak"
        yield f"  {seconds[tenth]:.1f} CPU-s: {parts}"
    yield f"whole / tenth: {seconds[False] / seconds[True]:.1f}x"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for line in lines():
        print(line, flush=True)
