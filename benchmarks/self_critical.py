"""What a self-critical step costs, over one that scores with pycocoevalcap per batch.

    python benchmarks/self_critical.py

Prints ratios measured in one run, on made-up captions of COCO's size: a vocabulary of 9,490 words,
a grid of 196 x 2048, all sizes 512, 32 images with 5 references and 5 samples each, greedy
baseline. Both steps draw, decode and learn by the same code; only the reward differs: theirs is
made by pycocoevalcap's `Cider` from the batch's captions and references, as the common
implementation does at every step.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from pycocoevalcap.cider.cider import Cider

from captionlab.decoders import (
    AttentionConditioning,
    Conditioning,
    PreInjectConditioning,
    RecurrentDecoder,
)
from captionlab.decoders.cells import StateShape
from captionlab.objectives import SelfCritical
from captionlab.text import Vocabulary
from captionlab.types import CaptionBatch, FeatureShape, ImageFeatures

NUM_POSITIONS, GRID_DIM, DIM = 196, 2048, 512
SPECIAL = ["<pad>", "<start>", "<end>", "<unk>"]
NUM_STEPS = 3


class PerBatchReward:
    """CIDEr-D of pycocoevalcap over the captions and references of one batch."""

    def __init__(self, references: dict[str, list[str]]) -> None:
        self.references = references

    def __call__(
        self, images: Sequence[str], captions: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        ended = [f"{c} <end>" if end else c for c, end in zip(captions, finished, strict=True)]
        truth = {
            i: [f"{t} <end>" for t in self.references[image]] for i, image in enumerate(images)
        }
        _, values = Cider().compute_score(truth, {i: [text] for i, text in enumerate(ended)})
        return [float(value) for value in values]


def made_up(num_images: int, num_words: int, rng: random.Random) -> dict[str, list[str]]:
    """Captions of about 10 words, drawn by Zipf's law."""
    words = [f"w{i}" for i in range(num_words)]
    weights = [1 / (i + 1) for i in range(len(words))]
    return {
        str(i): [" ".join(rng.choices(words, weights, k=rng.randint(8, 14))) for _ in range(5)]
        for i in range(num_images)
    }


def timed(work: Callable[[], object]) -> float:
    """CPU-seconds, which other work on the machine changes least."""
    began = time.process_time()
    work()
    return time.process_time() - began


def decoder_and_features(
    batch_size: int, num_words: int, attends: bool
) -> tuple[RecurrentDecoder, ImageFeatures]:
    shape = FeatureShape((14, 14), GRID_DIM, GRID_DIM)
    state = StateShape.of("lstm", 1, DIM)
    conditioning: Conditioning
    if attends:
        conditioning = AttentionConditioning(shape, DIM, state, DIM, DIM, 0.5)
    else:
        conditioning = PreInjectConditioning(shape, DIM, state)
    decoder = RecurrentDecoder("lstm", DIM, DIM, 1, 0.5, conditioning, num_words)
    grid = torch.randn(batch_size, NUM_POSITIONS, GRID_DIM)
    return decoder.train(), ImageFeatures(grid, grid.mean(1))


def lines(num_images: int, num_words: int, batch_size: int) -> Iterator[str]:
    """The report, line by line."""
    rng = random.Random(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    references = made_up(num_images, num_words - len(SPECIAL), rng)
    vocabulary = Vocabulary([*SPECIAL, *(f"w{i}" for i in range(num_words - len(SPECIAL)))])
    began = time.process_time()
    ours = SelfCritical(
        vocabulary=vocabulary,
        references=references,
        max_length=16,
        baseline="greedy",
        num_samples=5,
        bleu_weight=0.0,
    )
    counting = time.process_time() - began
    counted, reward = ours.reward, PerBatchReward(references)
    images = rng.sample(list(references), batch_size)

    told = [references[image][k] for image in images for k in range(5)]
    asked = [image for image in images for _ in range(5)]
    finished = [True] * len(told)
    mine = timed(lambda: counted(asked, told, finished))
    theirs = timed(lambda: reward(asked, told, finished))
    yield f"references of {num_images} images counted once: {counting:.1f} CPU-s"
    yield f"reward of {len(told)} captions, ours over pycocoevalcap's: {mine / theirs:.3f}x"
    yield f"  {mine:.3f} and {theirs:.3f} CPU-s"

    for attends in (False, True):
        decoder, features = decoder_and_features(batch_size, num_words, attends)
        batch = CaptionBatch(tuple(images), features, torch.zeros(batch_size, 0, 0))
        optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-6)

        def step(decoder=decoder, batch=batch, optimizer=optimizer) -> None:  # type: ignore[no-untyped-def]
            loss, _ = ours(decoder, batch, 0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        step()
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(NUM_STEPS):
            for is_ours in (True, False):  # in turn, so that both meet the same machine
                ours.reward = counted if is_ours else reward  # type: ignore[assignment]
                seconds[is_ours].append(timed(step))
        ratio = statistics.median(seconds[True]) / statistics.median(seconds[False])
        name = "attention" if attends else "pre-inject"
        yield f"self-critical step, {name} LSTM, ours over theirs: {ratio:.2f}x"
        yield f"  {statistics.median(seconds[True]):.2f} CPU-s a step here"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=9490)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    for line in lines(options.images, options.words, options.batch):
        print(line, flush=True)
