"""What a GPU makes of training at COCO's size, and of encoders.

    python benchmarks/gpu.py                            # on the first GPU
    python benchmarks/gpu.py --device cpu --small       # to see that it runs

An attention LSTM (sizes 512, a vocabulary of 9,490, a map of 14 x 14 x 2048) is trained on random
features and captions: steps of cross-entropy and self-critical steps, with gradient clipping and
AdamW, as in a run. A step is timed after warming up, over several steps between two
synchronisations. An epoch is 113,000 images with five captions. Busy is the share of the time in
which the profiler sees a kernel or a copy on the card. Peak memory is what torch allocated.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from decoders import Sizes, captions, decoder_of
from self_critical import SPECIAL, random_captions
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from captionlab.decoders import AttentionConditioning
from captionlab.encoders import read_encoder
from captionlab.errors import ConfigError
from captionlab.images.preprocessing import normalise
from captionlab.objectives import CrossEntropy, Objective, SelfCritical
from captionlab.text import Vocabulary
from captionlab.training.compilation import compile_decoder, compile_errors, pad_for_graph
from captionlab.types import CaptionBatch, ImageFeatures

CONF = Path(__file__).parents[1] / "conf" / "encoder"
ENCODERS = {"resnet50": "resnet50", "resnet101": "resnet", "vgg16": "vgg", "xception": "xception"}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
NUM_IMAGES = 113_000  # of an epoch
POOL = 4  # batches, which take turns


@dataclass(frozen=True)
class Setup:
    """What all measurements have in common."""

    device: torch.device
    sizes: Sizes
    num_images: int  # of a batch
    num_steps: int  # that are timed
    num_pixels: int | None = None  # side of a photo; None for the encoder's own

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], warm_up: int = 3) -> float:
        """Of one of several calls, after some that warm up."""
        for _ in range(warm_up):
            work()
        self.synchronise()
        began = time.perf_counter()
        for _ in range(self.num_steps):
            work()
        self.synchronise()
        return (time.perf_counter() - began) / self.num_steps

    def reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> str:
        if self.device.type != "cuda":
            return ""
        return f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB at its peak"

    def busy(self, work: Callable[[], object], seconds: float) -> str:
        """Share of a call's time, as it was without the profiler, in which anything runs there."""
        if self.device.type != "cuda":
            return ""
        num_calls = 3
        self.synchronise()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            for _ in range(num_calls):
                work()
            self.synchronise()
        ranges = sorted(
            (event.time_range.start, event.time_range.end)
            for event in profiler.events()
            if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
        )
        covered, reached = 0.0, float("-inf")
        for start, end in ranges:
            covered += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return f", busy {100 * covered / (1e6 * num_calls * seconds):.0f} %"


def autocast(setup: Setup, dtype: torch.dtype | None) -> torch.autocast | nullcontext[None]:
    """As Lightning has it, which converts weights at every use."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(setup.device.type, dtype, cache_enabled=False)


def batch_pool(setup: Setup) -> list[CaptionBatch]:
    """Batches in the memory of the host, float16 as in a store, pinned where there is a card."""
    pool = []
    for number in range(POOL):
        grid = torch.randn(setup.num_images, setup.sizes.side**2, setup.sizes.channels).relu()
        ids = tuple(str(number * setup.num_images + i) for i in range(setup.num_images))
        features = ImageFeatures(grid.half(), grid.mean(1).half())
        batch = CaptionBatch(ids, features, captions(setup.sizes, setup.num_images, 5))
        pool.append(batch.pin_memory() if setup.device.type == "cuda" else batch)
    return pool


def resident(pool: Sequence[CaptionBatch], device: torch.device) -> Iterator[CaptionBatch]:
    """Batches that are on the card once and for all."""
    yield from itertools.cycle([batch.to(device) for batch in pool])


def copied(pool: Sequence[CaptionBatch], device: torch.device) -> Iterator[CaptionBatch]:
    """Batches copied when they are asked for, as in a run."""
    for batch in itertools.cycle(pool):
        yield batch.to(device, non_blocking=True)


def copied_ahead(pool: Sequence[CaptionBatch], device: torch.device) -> Iterator[CaptionBatch]:
    """Batches copied while the step before them is computed, in a stream of their own."""
    source, stream = itertools.cycle(pool), torch.cuda.Stream(device)

    def fetch() -> CaptionBatch:
        with torch.cuda.stream(stream):
            return next(source).to(device, non_blocking=True)

    ahead = fetch()
    while True:
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        batch = ahead
        for tensor in (batch.features.grid, batch.features.pooled, batch.tokens):
            tensor.record_stream(current)  # its memory is free for others only afterwards
        ahead = fetch()
        yield batch


class Training:
    """Steps of one objective in one precision.

    Args:
        setup: of the measurement.
        decoder: its weights are copied.
        objective: what is minimised.
        dtype: of autocast; None for fp32.
        compiled: whether teacher forcing is one graph.
    """

    def __init__(
        self,
        setup: Setup,
        decoder: nn.Module,
        objective: Objective,
        dtype: torch.dtype | None,
        compiled: bool = False,
    ) -> None:
        self.setup, self.objective, self.dtype, self.compiled = setup, objective, dtype, compiled
        self.decoder = copy.deepcopy(decoder).to(setup.device).train()
        if compiled:
            compile_decoder(self.decoder)
        scales = dtype is torch.float16 and setup.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=scales)
        fused = not scales or None  # as in a run
        self.optimizer = torch.optim.AdamW(self.decoder.parameters(), 1e-4, fused=fused)

    def step(self, batch: CaptionBatch) -> Tensor:
        """The loss, a scalar on the device."""
        tokens = pad_for_graph(batch.tokens) if self.compiled else batch.tokens
        batch = replace(batch, features=batch.features.to(torch.float32), tokens=tokens)
        with autocast(self.setup, self.dtype), compile_errors():
            means, _ = self.objective.means(self.decoder, batch, 0.0)
        self.optimizer.zero_grad()
        self.scaler.scale(means[0].value).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 5.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return means[0].value.detach()

    def line(self, name: str, batches: Iterator[CaptionBatch]) -> str:
        """What a step takes."""
        self.setup.reset_peak()
        began = time.perf_counter()
        loss = float(self.step(next(batches)))
        first = time.perf_counter() - began
        seconds = self.setup.seconds(lambda: self.step(next(batches)))
        peak = self.setup.peak()
        busy = self.setup.busy(lambda: self.step(next(batches)), seconds)
        epoch = seconds * NUM_IMAGES / self.setup.num_images
        return (
            f"  {name:<40} {1e3 * seconds:8.1f} ms a step, {epoch:7.0f} s an epoch{busy}{peak}; "
            f"the first step {first:.1f} s, its loss {loss:.3f}"
        )


def training_lines(setup: Setup, compiles: bool) -> Iterator[str]:
    """Cross-entropy and self-critical training."""
    torch.manual_seed(0)
    sizes = setup.sizes
    decoder = decoder_of(
        sizes, AttentionConditioning, feature_dim=sizes.hidden, attention_dim=sizes.hidden
    )
    pool = batch_pool(setup)
    yield f"cross-entropy, {setup.num_images} images with five captions, features on the device:"
    entropy = CrossEntropy(0.0)
    for name, dtype in PRECISIONS.items():
        training = Training(setup, decoder, entropy, dtype)
        yield training.line(name, resident(pool, setup.device))
    for name, dtype in list(PRECISIONS.items())[: 2 if compiles else 0]:
        training = Training(setup, decoder, entropy, dtype, compiled=True)
        try:
            yield training.line(f"{name}, compiled", resident(pool, setup.device))
        except ConfigError as error:
            yield f"  {name}, compiled: {error}"
    yield "cross-entropy, bf16, features in the host's pinned memory:"
    ways = {"copied when asked for": copied}
    if setup.device.type == "cuda":
        ways["copied ahead, in a stream of their own"] = copied_ahead
    for name, way in ways.items():
        yield Training(setup, decoder, entropy, torch.bfloat16).line(name, way(pool, setup.device))

    yield "self-critical, five captions drawn per image, greedy baseline, features on the device:"
    words = [f"w{i}" for i in range(sizes.vocabulary - len(SPECIAL))]
    references = random_captions(POOL * setup.num_images, len(words), random.Random(0))
    objective = SelfCritical(
        vocabulary=Vocabulary([*SPECIAL, *words]),
        references=references,
        max_length=16,
        baseline="greedy",
        num_samples=5,
        temperature=1.0,
        bleu_weight=0.0,
    )
    for name, dtype in PRECISIONS.items():
        training = Training(setup, decoder, objective, dtype)
        yield training.line(name, resident(pool, setup.device))


def encoder_lines(setup: Setup) -> Iterator[str]:
    """Images per second of frozen encoders; random weights cost the same."""
    yield f"encoders, bf16, batches of {setup.num_images}, pixels copied from pinned memory:"
    for name, file in ENCODERS.items():
        encoder = read_encoder(CONF, file, weights="none")
        side = setup.num_pixels or encoder.preprocessing.image_size
        pixels = torch.randint(0, 256, (setup.num_images, 3, side, side), dtype=torch.uint8)
        few = normalise(pixels[:2], encoder.preprocessing)
        encoder.prepare([few], setup.device)
        pixels = pixels.pin_memory() if setup.device.type == "cuda" else pixels

        @torch.inference_mode()
        def encode(encoder=encoder, pixels=pixels) -> ImageFeatures:  # type: ignore[no-untyped-def]
            on_device = pixels.to(setup.device, non_blocking=True)
            with autocast(setup, torch.bfloat16):
                return encoder(normalise(on_device, encoder.preprocessing))  # type: ignore[no-any-return]

        setup.reset_peak()
        seconds = setup.seconds(encode)
        peak = setup.peak()
        yield (
            f"  {name:<12} {side} pixels {setup.num_images / seconds:9.1f} images/s"
            f"{setup.busy(encode, seconds)}{peak}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    parser.add_argument("--side", type=int, default=14, help="positions of a side of the map")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--small", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled steps out")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU here; --device cpu --small shows that the script runs.")
        return
    device = torch.device(given.device)
    setup = Setup(device, Sizes(side=given.side), given.batch, given.steps)
    if given.small:
        setup = Setup(device, Sizes(4, 3, 32, 200, 16), 4, 2, num_pixels=96)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}", flush=True)
    for part in (encoder_lines(setup), training_lines(setup, not given.no_compile)):
        for line in part:
            print(line, flush=True)


if __name__ == "__main__":
    main()
