"""What encoding and reading features costs, against the plain ways.

    python benchmarks/features.py PHOTOS [--weights PATH]

PHOTOS is a folder of JPEG files. Prints ratios measured in one run: the store's encoding against
the plain loop (Pillow, float32, batches of 32, no workers), both for ResNet-50 at 224; reading
the grids of 64 images by a fresh process against a decoder's training step on them; and the memory
that reading takes with 8,000 and with 123,287 images in the store.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms import v2

from captionlab.corpora import CaptionCorpus, CaptionedImage
from captionlab.devices import autocast_dtype, resolve_precision
from captionlab.encoders import TorchvisionEncoder
from captionlab.features import FeatureStore
from captionlab.features.builder import open_or_build
from captionlab.runs.engine import keep_freed_memory
from captionlab.types import FeatureShape

CPU = torch.device("cpu")
SHAPE = FeatureShape((7, 7), 2048, 2048)


def plain_loop(photos: list[Path]) -> float:
    """Seconds per image of what a notebook does."""
    model = get_model("resnet50", weights=None).eval()
    trunk = torch.nn.Sequential(*list(model.children())[:-2])
    transform = v2.Compose([v2.Resize(224), v2.CenterCrop(224), v2.PILToTensor()])
    began = time.perf_counter()
    with torch.no_grad():
        for i in range(0, len(photos), 32):
            images = [transform(Image.open(path).convert("RGB")) for path in photos[i : i + 32]]
            trunk(torch.stack(images).float() / 255)
    return (time.perf_counter() - began) / len(photos)


def store(photos: list[Path], weights: str) -> float:
    """Seconds per image of the feature store, writing included."""
    images = tuple(CaptionedImage(path.name, path, ("a photo",)) for path in photos)
    parts = {"train": images[:-2], "val": images[-2:-1], "test": images[-1:]}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        open_or_build(
            Path(folder),
            CaptionCorpus("photos", parts),  # type: ignore[arg-type]
            TorchvisionEncoder("resnet50", weights),
            batch_size=32,
            num_workers=0,
            device=CPU,
            autocast_dtype=autocast_dtype(resolve_precision("auto", CPU)),
        )
        return (time.perf_counter() - began) / len(photos)


def made_up_store(folder: Path, num_images: int) -> Path:
    """Of the right size; its files are holes but for the rows that are read."""
    folder.mkdir()
    rows = sorted({i * num_images // 640 for i in range(640)})
    sizes = {"grid": (num_images, 49, 2048), "pooled": (num_images, 2048)}
    for name, size in sizes.items():
        made = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, size)
        for row in rows:
            made[row] = row % 7
        made.flush()
    shape = {**asdict(SHAPE), "grid_size": list(SHAPE.grid_size)}
    ids = [str(i) for i in range(num_images)]
    told = {"feature_shape": shape, "image_ids": ids, "sample": {}, "rows": rows}
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder


def read(folder: Path) -> None:
    """Read ten batches of 64, and print the first's seconds and the peak memory."""
    found = FeatureStore(folder)
    rows = found.manifest["rows"]
    seconds = []
    for i in range(10):
        began = time.perf_counter()
        found.read([str(row) for row in rows[i::10]])
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"first": seconds[0], "peak": peak}))


def decoder_step() -> float:
    """Seconds of a training step of an attention LSTM on 64 images of 5 captions."""
    from captionlab.decoders import AttentionConditioning, RecurrentDecoder
    from captionlab.decoders.cells import StateShape
    from captionlab.objectives import CrossEntropy
    from captionlab.types import CaptionBatch, ImageFeatures

    conditioning = AttentionConditioning(SHAPE, 512, StateShape.of("lstm", 1, 512), 512, 256, 0.0)
    decoder = RecurrentDecoder("lstm", 512, 512, 1, 0.0, conditioning, 2500)
    features = ImageFeatures(torch.randn(64, 49, 2048), torch.randn(64, 2048))
    batch = CaptionBatch(("x",) * 64, features, torch.randint(4, 2500, (64, 5, 13)))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        CrossEntropy(0.0)(decoder, batch, progress=0.0)[0].backward()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", default="none")
    parser.add_argument("--number", type=int, default=512)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.photos)
        return
    photos = sorted(options.photos.glob("*.jpg"))[: options.number]
    plain = plain_loop(photos)
    keep_freed_memory()  # as a run does
    print(
        f"encoding {len(photos)} photos, plain loop over store: "
        f"{plain / store(photos, options.weights):.1f}x",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        told = {}
        for number in (8_000, 123_287):
            path = made_up_store(Path(folder, str(number)), number)
            command = [sys.executable, __file__, str(path), "--read"]
            told[number] = json.loads(subprocess.check_output(command))
    small, large = told.values()
    step = decoder_step()
    print(f"a decoder step over reading its 64 grids cold: {step / large['first']:.1f}x")
    print(
        "peak memory of reading 640 images, 123,287 in the store over 8,000: "
        f"{large['peak'] / small['peak']:.2f}x"
    )


if __name__ == "__main__":
    main()
