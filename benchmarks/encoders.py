"""What each encoder of conf/encoder costs beside ResNet-50: time, parameters and disk.

    python benchmarks/encoders.py

Prints ratios measured in one run: one thread, batches of 8 at the size that the weights were
trained on, float32, batch norms folded, CPU time of the fastest of three batches. Random weights
cost the same. Disk is grid and pooled features of one image in float16.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from captionlab.encoders import Encoder, list_encoders, read_encoder

BATCH = 8
CONF = Path(__file__).parents[1] / "conf" / "encoder"
FIRST = "resnet50"


def seconds_per_image(encoder: Encoder) -> float:
    """CPU time in the fastest of three batches, with prepared weights."""
    size = encoder.preprocessing.image_size
    images = torch.randn(BATCH, 3, size, size)
    encoder.prepare([images], torch.device("cpu"))
    seconds = []
    with torch.inference_mode():
        for _ in range(3):
            began = time.process_time()
            encoder(images)
            seconds.append(time.process_time() - began)
    return min(seconds) / BATCH


def main() -> None:
    torch.set_num_threads(1)
    print(
        "encoder            size  CPU-ms/image  ratio  parameters  grid x pooled         kB/image"
    )
    first = 0.0
    for name in sorted(list_encoders(CONF), key=lambda name: name != FIRST):
        encoder = read_encoder(CONF, name, weights="none")
        seconds = seconds_per_image(encoder)
        first = first or seconds
        shape = encoder.feature_shape
        sizes = f"{shape.grid_size[0]}x{shape.grid_size[1]}x{shape.grid_dim} + {shape.pooled_dim}"
        kilobytes = 2 * (shape.num_positions * shape.grid_dim + shape.pooled_dim) / 1000
        print(
            f"{name:18} {encoder.preprocessing.image_size:4d} {seconds * 1000:13.1f} "
            f"{seconds / first:6.2f} {encoder.num_parameters:11,d}  {sizes:20} {kilobytes:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
