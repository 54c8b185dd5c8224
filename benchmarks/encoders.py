"""What each encoder costs beside ResNet-50: time, parameters and disk.

    python benchmarks/encoders.py

Prints ratios measured in one run: one thread, batches of 8 at the size that the weights were
trained on, float32, batch norms folded, CPU time of the fastest of three batches. Random weights
cost the same. Disk is grid and pooled features of one image in float16.
"""

from __future__ import annotations

import time

import torch

from captionlab.encoders import TorchvisionEncoder, XceptionEncoder
from captionlab.encoders.classifier import ClassifierEncoder

BATCH = 8
ARCHITECTURES = (
    "resnet50",
    "resnet18",
    "resnet34",
    "resnet101",
    "resnet152",
    "vgg16",
    "vgg19",
    "inception_v3",
    "densenet121",
    "efficientnet_v2_s",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "xception",
)


def made(architecture: str) -> ClassifierEncoder:
    """With random weights."""
    if architecture == "xception":
        return XceptionEncoder("none")
    return TorchvisionEncoder(architecture, "none")


def seconds_per_image(encoder: ClassifierEncoder) -> float:
    """Of the fastest batch, after the one that fits the random weights."""
    size = encoder.preprocessing.image_size
    images = torch.randn(BATCH, 3, size, size)
    encoder.prepare([images], torch.device("cpu"))
    taken = []
    with torch.inference_mode():
        for _ in range(3):
            began = time.process_time()
            encoder(images)
            taken.append(time.process_time() - began)
    return min(taken) / BATCH


def main() -> None:
    torch.set_num_threads(1)
    print(
        "encoder            size  CPU-ms/image  ratio  parameters  grid x pooled         kB/image"
    )
    first = 0.0
    for architecture in ARCHITECTURES:
        encoder = made(architecture)
        seconds = seconds_per_image(encoder)
        first = first or seconds
        shape = encoder.feature_shape
        sizes = f"{shape.grid_size[0]}x{shape.grid_size[1]}x{shape.grid_dim} + {shape.pooled_dim}"
        kilobytes = 2 * (shape.num_positions * shape.grid_dim + shape.pooled_dim) / 1000
        print(
            f"{architecture:18} {encoder.preprocessing.image_size:4d} {seconds * 1000:13.1f} "
            f"{seconds / first:6.2f} {encoder.num_parameters:11,d}  {sizes:20} {kilobytes:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
