"""What encoding and reading features costs, against the plain ways.

    python benchmarks/features.py PHOTOS [--weights PATH]

PHOTOS is a folder of JPEG files. Prints ratios measured in one run: the store's encoding against
the plain loop (Pillow, float32, batches of 32, no workers), both for ResNet-50 at 224 and each in
a process of its own, by the clock and by processor time, with peak memories; the share of decoding
in the store's; reading the grids of 64 images by a fresh process, compared with their digest,
against a decoder's training step on them; and the memory that reading takes with 8,000 and with
123,287 images in the store.
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
from typing import Any

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
from captionlab.features.store import digest_of, write_manifest
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.runs.engine import keep_freed_memory
from captionlab.types import FeatureShape, Preprocessing

CPU = torch.device("cpu")
SHAPE = FeatureShape((7, 7), 2048, 2048)
PREPROCESSING = Preprocessing(224, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)
BLOCK = 256  # images that share a digest
NUM_READ = 10  # blocks


def plain_loop(photos: list[Path], weights: str) -> None:
    """What a notebook does."""
    model = get_model("resnet50", weights=None).eval()
    trunk = torch.nn.Sequential(*list(model.children())[:-2])
    transform = v2.Compose([v2.Resize(224), v2.CenterCrop(224), v2.PILToTensor()])
    with torch.no_grad():
        for i in range(0, len(photos), 32):
            images = [transform(Image.open(path).convert("RGB")) for path in photos[i : i + 32]]
            trunk(torch.stack(images).float() / 255)


def store(photos: list[Path], weights: str) -> None:
    """The feature store, writing included."""
    keep_freed_memory()  # as a run does
    images = tuple(CaptionedImage(path.name, path, ("a photo",)) for path in photos)
    parts = {"train": images[:-2], "val": images[-2:-1], "test": images[-1:]}
    with tempfile.TemporaryDirectory() as folder:
        open_or_build(
            Path(folder),
            CaptionCorpus("photos", parts),  # type: ignore[arg-type]
            TorchvisionEncoder("resnet50", weights),
            batch_size=32,
            num_workers=0,
            device=CPU,
            autocast_dtype=autocast_dtype(resolve_precision("auto", CPU)),
        )


def decoding(photos: list[Path], weights: str) -> None:
    """What the store's encoding spends on photos before the encoder sees them."""
    plain = Photos([(path, None) for path in photos], PREPROCESSING)
    for _ in pixel_batches(plain, 32, 0):
        pass


WAYS = {way.__name__: way for way in (plain_loop, store, decoding)}


def measure(way: str, photos: list[Path], weights: str) -> None:
    """Print seconds, processor seconds and peak gigabytes of one way."""
    began, cpu = time.perf_counter(), time.process_time()
    WAYS[way](photos, weights)
    costs = [time.perf_counter() - began, time.process_time() - cpu, peak_memory() / 1e6]
    print(json.dumps(costs))


def peak_memory() -> int:
    """Of this process, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def made_up_store(folder: Path, num_images: int) -> Path:
    """Of the right size; its files are holes but for the blocks that are read."""
    folder.mkdir()
    begins = [i * num_images // NUM_READ // BLOCK * BLOCK for i in range(NUM_READ)]
    sizes = {"grid": (num_images, 49, 2048), "pooled": (num_images, 2048)}
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, size)
        for name, size in sizes.items()
    }
    blocks: list[dict[str, Any]] = []
    for begin in range(0, num_images, BLOCK):
        block: dict[str, Any] = {"end": min(begin + BLOCK, num_images)}
        for name, array in arrays.items():
            if begin in begins:
                array[begin : block["end"]] = 1 + begin % 7
                block[name] = digest_of(array[begin : block["end"]])
        blocks.append(block)
    shape = {**asdict(SHAPE), "grid_size": list(SHAPE.grid_size)}
    ids = [str(i) for i in range(num_images)]
    write_manifest(folder, {"feature_shape": shape, "begins": begins}, arrays, blocks, ids)
    return folder


def read(folder: Path) -> None:
    """Read 64 images of each block, and print the first's seconds and the peak memory."""
    found = FeatureStore(folder)
    seconds = []
    for begin in found.manifest["begins"]:
        began = time.perf_counter()
        found.read([str(begin + row) for row in range(0, BLOCK, 4)])
        seconds.append(time.perf_counter() - began)
    print(json.dumps([seconds[0], peak_memory()]))


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
    parser.add_argument("--way", choices=[*WAYS, "read"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way == "read":
        read(options.photos)
        return
    photos = sorted(options.photos.glob("*.jpg"))[: options.number]
    if options.way:
        measure(options.way, photos, options.weights)
        return
    costs = {}
    for way in WAYS:
        number = ["--weights", options.weights, "--number", str(options.number)]
        costs[way] = in_a_process(options.photos, way, *number)
    (plain, plain_cpu, plain_peak), (stored, stored_cpu, stored_peak), (decoded, *_) = (
        costs.values()
    )
    print(
        f"encoding {len(photos)} photos, plain loop over store: {plain / stored:.1f}x by the clock "
        f"({plain / len(photos) * 1000:.1f} over {stored / len(photos) * 1000:.1f} ms a photo), "
        f"{plain_cpu / stored_cpu:.1f}x by processor time; decoding is {decoded / stored:.2f}x of "
        f"the store's; peak memory {plain_peak:.2f} and {stored_peak:.2f} GB",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        small, large = (
            in_a_process(made_up_store(Path(folder, str(number)), number), "read")
            for number in (8_000, 123_287)
        )
    step = decoder_step()
    print(f"a decoder step over reading its 64 grids cold: {step / large[0]:.1f}x")
    print(
        "peak memory of reading 640 images, 123,287 in the store over 8,000: "
        f"{large[1] / small[1]:.2f}x"
    )


def in_a_process(path: Path, way: str, *options: str) -> list[float]:
    """What a fresh process measures."""
    command = [sys.executable, __file__, str(path), "--way", way, *options]
    found: list[float] = json.loads(subprocess.check_output(command))
    return found


if __name__ == "__main__":
    main()
