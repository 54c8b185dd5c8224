"""What captioning photos costs beside encoding them.

    python benchmarks/captions.py PHOTOS --run RUN [--number 1000]

PHOTOS is a folder, RUN a finished run with a frozen encoder. Prints ratios measured in one run:
the rate of `captionlab.load(RUN).stream`, texts alone as `captionlab caption` prints them, against
that of the feature store's builder on the same photos, by the clock and by the processor time of
this process; the time of a fresh process from its start to one caption against that of one that
imports torch; and the peak memory of a process that captions all photos over that of one that
captions a tenth.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import captionlab
from captionlab.captioner.load import load_run
from captionlab.captioner.photo_input import photos_in
from captionlab.corpora import CaptionCorpus, CaptionedImage
from captionlab.features.builder import open_or_build
from captionlab.features.source import StoredFeatures
from captionlab.runs.engine import keep_freed_memory

PEAK = """
import resource, sys, captionlab
from itertools import islice
from pathlib import Path
from captionlab.captioner.photo_input import photos_in
photos = islice(photos_in(Path(sys.argv[1])), int(sys.argv[3]))
for caption in captionlab.load(sys.argv[2]).stream(photos): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
ONE = "import sys, captionlab; print(captionlab.load(sys.argv[1])(sys.argv[2]).text)"


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def encode(photos: list[Path], source: StoredFeatures) -> None:
    """As the feature store's builder does, weights loaded and features written."""
    images = tuple(CaptionedImage(str(path), path, ("a photo",)) for path in photos)
    parts = {"train": images[:-2], "val": images[-2:-1], "test": images[-1:]}
    with tempfile.TemporaryDirectory() as folder:
        open_or_build(
            Path(folder),
            CaptionCorpus("photos", parts),  # type: ignore[arg-type]
            copy.deepcopy(source.encoder),
            batch_size=source.batch_size,
            num_workers=source.num_workers,
            device=source.device,
            autocast_dtype=source.autocast_dtype,
        )


def seconds(code: str, *arguments: str) -> float:
    """Of a fresh process, the faster of two."""
    command = [sys.executable, "-c", code, *arguments]
    return min(timed(lambda: subprocess.check_output(command))[0] for _ in range(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--number", type=int, default=1000)
    options = parser.parse_args()
    photos = photos_in(options.photos)[: options.number]
    source = load_run(options.run).captioner.source
    assert isinstance(source, StoredFeatures)
    captioner = captionlab.load(options.run)
    workers = captioner.num_workers
    keep_freed_memory()  # as a run does
    captioner(photos[: source.batch_size])
    print(f"{len(photos)} photos, {workers} worker processes, load {os.getloadavg()[0]:.1f}")

    def caption() -> None:
        captions = captioner.stream(photos, words=False, num_workers=workers)
        texts = [caption.text for caption in captions]
        print(f"{sum(len(text.split()) for text in texts) / len(texts):.1f} words per caption")

    encoding, captioning = timed(lambda: encode(photos, source)), timed(caption)
    for name, plain, ours in zip(("clock", "processor"), encoding, captioning, strict=True):
        print(
            f"captioning rate over encoding rate, by the {name}: {plain / ours:.2f}x "
            f"({1000 * ours / len(photos):.0f} and {1000 * plain / len(photos):.0f} ms per photo)",
            flush=True,
        )
    torch, one = seconds("import torch"), seconds(ONE, str(options.run), str(photos[0]))
    print(
        f"one photo in a fresh process over importing torch: {one / torch:.1f}x, "
        f"{one - torch:.1f} s more"
    )
    peaks = [
        int(
            subprocess.check_output(
                [sys.executable, "-c", PEAK, str(options.photos), str(options.run), str(n)]
            )
        )
        for n in (len(photos), len(photos) // 10)
    ]
    print(f"peak memory, {len(photos)} photos over {len(photos) // 10}: {peaks[0] / peaks[1]:.2f}x")


if __name__ == "__main__":
    main()
