"""What a self-critical step costs, over one that scores with pycocoevalcap per batch.

    python benchmarks/self_critical.py

Prints ratios measured in one run, on random captions of COCO's size: a vocabulary of 9,490 words,
a grid of 196 x 2048, all sizes 512, 32 images with 5 references and 5 samples each, greedy
baseline. The common step draws word by word with a gradient, and asks pycocoevalcap's `Cider` for
the reward of the batch's captions, whose references it counts anew: once with our decoder, once
(attention) with the tutorials', which has one caption per row. Ours is also compared with itself
under that reward.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from decoders import Tutorial
from pycocoevalcap.cider.cider import Cider
from torch import Tensor

from captionlab.decoders import (
    AttentionConditioning,
    Conditioning,
    Decoder,
    DecoderState,
    PreInjectConditioning,
    PreparedImage,
    RecurrentDecoder,
    TeacherForced,
)
from captionlab.decoders.cells import StateShape
from captionlab.objectives import SelfCritical
from captionlab.search import GreedySearch
from captionlab.search.protocol import forbid_special
from captionlab.text import Vocabulary
from captionlab.types import END_ID, START_ID, CaptionBatch, FeatureShape, ImageFeatures

NUM_POSITIONS, GRID_DIM, DIM = 196, 2048, 512
SPECIAL = ["<pad>", "<start>", "<end>", "<unk>"]
NUM_STEPS, NUM_SAMPLES, MAX_LENGTH = 3, 5, 16


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


def random_captions(num_images: int, num_words: int, rng: random.Random) -> dict[str, list[str]]:
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
        conditioning = PreInjectConditioning(shape, DIM, state, 0.5)
    decoder = RecurrentDecoder("lstm", DIM, DIM, 1, 0.5, conditioning, num_words)
    grid = torch.randn(batch_size, NUM_POSITIONS, GRID_DIM)
    return decoder.train(), ImageFeatures(grid, grid.mean(1))


def lines(num_images: int, num_words: int, batch_size: int) -> Iterator[str]:
    """The report, line by line."""
    rng = random.Random(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    references = random_captions(num_images, num_words - len(SPECIAL), rng)
    vocabulary = Vocabulary([*SPECIAL, *(f"w{i}" for i in range(num_words - len(SPECIAL)))])
    began = time.process_time()
    ours = SelfCritical(
        vocabulary=vocabulary,
        references=references,
        max_length=MAX_LENGTH,
        baseline="greedy",
        num_samples=NUM_SAMPLES,
        temperature=1.0,
        bleu_weight=0.0,
    )
    counting = time.process_time() - began
    counted, reward = ours.reward, PerBatchReward(references)
    images = rng.sample(list(references), batch_size)

    texts = [references[image][k] for image in images for k in range(5)]
    repeated = [image for image in images for _ in range(5)]
    finished = [True] * len(texts)
    our_seconds = timed(lambda: counted(repeated, texts, finished))
    their_seconds = timed(lambda: reward(repeated, texts, finished))
    ratio = our_seconds / their_seconds
    yield f"references of {num_images} images counted once: {counting:.1f} CPU-s"
    yield f"reward of {len(texts)} captions, ours over pycocoevalcap's: {ratio:.3f}x"
    yield f"  {our_seconds:.3f} and {their_seconds:.3f} CPU-s"

    for attends in (False, True):
        decoder, features = decoder_and_features(batch_size, num_words, attends)
        batch = CaptionBatch(tuple(images), features, torch.zeros(batch_size, 0, 0))
        optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-6)

        losses: dict[str, Callable[[], Tensor]] = {
            "ours": partial(our_loss, ours, counted, decoder, batch),
            "ours, their reward": partial(our_loss, ours, reward, decoder, batch),
            "the common": partial(common_loss, decoder, batch, reward, vocabulary),
        }
        if attends:
            rows = OneCaptionPerRow(decoder)
            losses["the tutorials'"] = partial(common_loss, rows, batch, reward, vocabulary)
        seconds: dict[str, list[float]] = {name: [] for name in losses}
        for _ in range(1 + NUM_STEPS):
            for name, loss in losses.items():  # in turn, so that all meet the same machine
                seconds[name].append(timed(partial(learn, optimizer, loss)))
        middle = {name: statistics.median(each[1:]) for name, each in seconds.items()}
        name = "attention" if attends else "pre-inject"
        yield f"self-critical step, {name} LSTM, {middle['ours']:.2f} CPU-s here:"
        for other in list(losses)[1:]:
            yield f"  over {other + ':':<20} {middle['ours'] / middle[other]:.2f}x"


@dataclass(frozen=True)
class RowImage(PreparedImage):
    """The map of each row's image, each (R, P, D)."""

    values: Tensor
    keys: Tensor


class OneCaptionPerRow(Decoder):
    """The tutorials' attention decoder, its map projected once; see `decoders.Tutorial`."""

    def __init__(self, ours: RecurrentDecoder) -> None:
        super().__init__()
        self.tutorial = Tutorial(ours, hoisted=True)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        raise NotImplementedError("only steps are compared")

    def start(self, features: ImageFeatures) -> DecoderState:
        values = self.tutorial.map(self.tutorial.standardise(features.grid)).relu()
        state = self.tutorial.initial(values.mean(1)).tanh().chunk(2, dim=1)
        memory = tuple(part.unsqueeze(0) for part in state)
        return DecoderState(RowImage(values, self.tutorial.key(values)), memory)

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        hidden, cell = (part[0] for part in state.memory)
        image = state.image
        assert isinstance(image, RowImage)
        context = self.tutorial.attend(hidden, image.values, image.keys)
        words = self.tutorial.embedding(token_R)
        after = self.tutorial.cell(torch.cat([words, context], 1), (hidden, cell))
        log_probs = self.tutorial.vocabulary(after[0]).log_softmax(1)
        return log_probs, DecoderState(image, tuple(part.unsqueeze(0) for part in after))

    def select(
        self, state: DecoderState, rows: Tensor, images: Tensor | None = None
    ) -> DecoderState:
        image = state.image.select(rows)
        return DecoderState(image, tuple(part[:, rows] for part in state.memory))


def our_loss(
    objective: SelfCritical, scorer: Any, decoder: RecurrentDecoder, batch: CaptionBatch
) -> Tensor:
    objective.reward = scorer
    return objective(decoder, batch, 0.0)[0]


def learn(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def common_loss(
    decoder: Decoder, batch: CaptionBatch, reward: PerBatchReward, vocabulary: Vocabulary
) -> Tensor:
    """Rennie et al. 2017, as it is usually written: the words drawn one after another."""
    rows = torch.arange(len(batch)).repeat_interleave(NUM_SAMPLES)
    state = decoder.select(decoder.start(batch.features), rows)
    token = torch.full_like(rows, START_ID)
    done = torch.zeros_like(rows, dtype=torch.bool)
    tokens, chosen, counted = [], [], []
    for _ in range(MAX_LENGTH):
        log_probs, state = decoder.step(token, state)
        drawn = torch.multinomial(forbid_special(log_probs.detach().clone()).exp(), 1)
        token = drawn.squeeze(1).masked_fill(done, END_ID)
        tokens.append(token)
        chosen.append(log_probs.gather(1, drawn).squeeze(1))
        counted.append(~done)
        done = done | (token == END_ID)
        if done.all():
            break
    decoder.eval()
    greedy = GreedySearch(MAX_LENGTH)(decoder, batch.features)
    decoder.train()
    written = torch.stack(tokens, 1).tolist()
    captions = [vocabulary.decode(row) for row in written]
    captions += [vocabulary.decode(caption.tokens) for caption in greedy]
    finished = [*done.tolist(), *(caption.finished for caption in greedy)]
    images = [image for image in batch.image_ids for _ in range(NUM_SAMPLES)]
    rewards = torch.tensor(reward([*images, *batch.image_ids], captions, finished))
    advantage = rewards[: len(rows)] - rewards[len(rows) :].repeat_interleave(NUM_SAMPLES)
    mask = torch.stack(counted, 1)
    return -(advantage.unsqueeze(1) * torch.stack(chosen, 1))[mask].mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=9490)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    for line in lines(options.images, options.words, options.batch):
        print(line, flush=True)
