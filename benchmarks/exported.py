"""A run's captions by torch and by its ONNX export: how many are equal, and how fast each is.

    python benchmarks/exported.py RUN PHOTOS [--photos 200] [--threads 1]

RUN is a finished run, PHOTOS a folder. Both read the files, compute in float32 on the CPU and
caption one photo at a time, by greedy search and by beam search; the ratio is of wall time.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from captionlab.captioner.captioner import Captioner
from captionlab.captioner.load import load_run
from captionlab.captioner.onnx_export import export_onnx
from captionlab.images.preprocessing import read_pixels
from captionlab.search import BeamSearch, GreedySearch, Search


def by_torch(captioner: Captioner, search: Search) -> Callable[[Path], str]:
    """What writes a photo's caption."""
    source: Any = captioner.source

    def caption(photo: Path) -> str:
        features = source.encode(read_pixels(photo, source.preprocessing).unsqueeze(0))
        (best,) = search(captioner.decoder, features)
        return captioner.vocabulary.decode(best.tokens)

    return caption


def measure(caption: Callable[[Path], str], photos: list[Path]) -> tuple[list[str], float]:
    """The captions and the seconds per photo, the first photo not counted."""
    captions = [caption(photos[0])]
    began = time.perf_counter()
    captions += [caption(photo) for photo in photos[1:]]
    return captions, (time.perf_counter() - began) / (len(photos) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1, help="as OMP_NUM_THREADS for torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    photos = sorted(options.folder.glob("*.jpg"))[: options.photos]
    settings = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
    captioner = load_run(options.run, settings).captioner
    longest = captioner.search.max_length
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(captioner, Path(folder))
        spec = importlib.util.spec_from_file_location("caption", Path(folder) / "caption.py")
        assert spec is not None
        assert spec.loader is not None
        script: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        searches = [GreedySearch(longest), BeamSearch(longest, 3, 0.7)]
        for search, name in zip(searches, ("greedy", "beam"), strict=True):
            changes = {"name": name, "beam_size": 3, "length_penalty": 0.7}
            exported = script.Captioner(Path(folder), num_threads=options.threads, **changes)
            theirs, slow = measure(by_torch(captioner, search), photos)
            ours, fast = measure(lambda photo, run=exported: run(photo)[0].text, photos)
            equal = sum(a == b for a, b in zip(theirs, ours, strict=True))
            print(
                f"{name:6} {equal} of {len(photos)} captions equal; torch {1000 * slow:.1f} ms a "
                f"photo, onnxruntime {1000 * fast:.1f} ms: {slow / fast:.2f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
