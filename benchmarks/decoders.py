"""What a decoder's steps cost beside a bare LSTM and beside the tutorials' attention.

    OMP_NUM_THREADS=2 python benchmarks/decoders.py

Prints ratios measured in one run, on random features and captions of COCO's size: 32 captions of 8
to 16 words, a vocabulary of 9,490, a map of 196 x 2048, all sizes 512. A step is a forward pass,
the cross-entropy and a backward pass, without dropout. Steps are taken in turns and the best of
each counts; CPU seconds, which bear other work on the machine, come before wall seconds.
Freed memory is kept, as in a run; the tutorials' code gains by that too.

The tutorials' way to compute attention (`Tutorial`) does the whole image work again at each step,
one caption per row, and its beam search takes one image at a time. It is given our weights, so
that its loss and its captions must be ours.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from captionlab.decoders import (
    AttentionConditioning,
    Conditioning,
    InitInjectConditioning,
    MergeConditioning,
    ParInjectConditioning,
    PreInjectConditioning,
    RecurrentDecoder,
)
from captionlab.decoders.cells import Cell, StateShape
from captionlab.decoders.fast import teacher_forcing
from captionlab.devices import resolve_precision
from captionlab.objectives.protocol import cross_entropy
from captionlab.search import BeamSearch
from captionlab.types import (
    END_ID,
    PAD_ID,
    START_ID,
    UNKNOWN_ID,
    FeatureShape,
    Hypothesis,
    ImageFeatures,
)

NUM_WORDS = 16  # of a searched caption


@dataclass(frozen=True)
class Sizes:
    """Of a model and a batch."""

    num_captions: int = 32
    side: int = 14
    channels: int = 2048
    vocabulary: int = 9490
    hidden: int = 512
    repeats: int = 3

    @property
    def features(self) -> FeatureShape:
        return FeatureShape((self.side, self.side), self.channels, self.channels)


class Bare(nn.Module):
    """Embedding, torch.nn.LSTM and output layer, and no image: the least that words cost."""

    def __init__(self, vocabulary: int, embedding: int, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.vocabulary = nn.Linear(outputs, vocabulary)
        self.more_inputs, self.more_outputs = inputs - embedding, outputs - hidden

    def loss(self, tokens: Tensor) -> Tensor:
        targets = tokens[:, 1:]
        inputs = functional.pad(self.embedding(tokens[:, :-1]), (0, self.more_inputs))
        outputs = functional.pad(self.lstm(inputs)[0], (0, self.more_outputs))
        is_word = targets != PAD_ID
        return functional.cross_entropy(self.vocabulary(outputs[is_word]), targets[is_word])


class Tutorial(nn.Module):
    """The same attention decoder written as tutorials do, one row per caption, fp32.

    Args:
        ours: whose weights are copied.
        hoisted: whether the map is projected once, before the loop over time.
    """

    def __init__(self, ours: RecurrentDecoder, hoisted: bool) -> None:
        super().__init__()
        ours = copy.deepcopy(ours)
        part = ours.conditioning
        assert isinstance(part, AttentionConditioning)
        assert ours.recurrent.context is not None
        self.hoisted = hoisted
        self.standardise, self.map = part.project[0], part.project[1]
        self.key, self.energy, self.initial = part.key, part.energy, part.initial
        attention_dim = self.key.out_features
        hidden_dim, feature_dim = ours.recurrent.state_shape.hidden_dim, self.map.out_features
        self.query = nn.Linear(hidden_dim, attention_dim)
        self.gate = nn.Linear(hidden_dim, feature_dim)
        layers, both = ours.recurrent.layers, part.query_and_gate
        self.cell = nn.LSTMCell(layers.input_size + feature_dim, hidden_dim)
        with torch.no_grad():
            for name in ("weight", "bias"):
                query, gate = getattr(both, name).split([attention_dim, feature_dim])
                getattr(self.query, name).copy_(query)
                getattr(self.gate, name).copy_(gate)
            weight_ih, weight_hh, bias_ih, bias_hh = layers.all_weights[0]
            self.cell.weight_ih.copy_(torch.cat([weight_ih, ours.recurrent.context.weight], 1))
            self.cell.weight_hh.copy_(weight_hh)
            self.cell.bias_ih.copy_(bias_ih)
            self.cell.bias_hh.copy_(bias_hh)
        self.embedding, self.vocabulary = ours.embedding, ours.vocabulary_layer

    def loss(self, grid: Tensor, tokens: Tensor) -> Tensor:
        lengths, order = (tokens[:, 1:] != PAD_ID).sum(1).sort(descending=True)
        tokens, grid = tokens[order], self.standardise(grid[order])
        words = self.embedding(tokens[:, :-1])
        values = self.map(grid).relu()
        keys = self.key(values)
        state = self.initial(values.mean(1)).tanh().chunk(2, dim=1)
        logits = []
        for t in range(int(lengths.max())):
            rows = int((lengths > t).sum())
            hidden, cell = state[0][:rows], state[1][:rows]
            if self.hoisted:
                values, keys = values[:rows], keys[:rows]
            else:
                values = self.map(grid[:rows]).relu()
                keys = self.key(values)
            context = self.attend(hidden, values, keys)
            state = self.cell(torch.cat([words[:rows, t], context], 1), (hidden, cell))
            logits.append(self.vocabulary(state[0]))
        targets = [tokens[: len(part), t + 1] for t, part in enumerate(logits)]
        return functional.cross_entropy(torch.cat(logits), torch.cat(targets))

    def attend(self, hidden: Tensor, values: Tensor, keys: Tensor) -> Tensor:
        """The gated context (R, D)."""
        energy = self.energy(torch.tanh(keys + self.query(hidden).unsqueeze(1)))
        return self.gate(hidden).sigmoid() * (values * energy.softmax(1)).sum(1)

    @torch.no_grad()
    def beam(self, grid: Tensor, beam_size: int, num_words: int) -> tuple[int, ...]:
        """The likeliest caption of one image (1, P, C), if none ends before `num_words`."""
        grid = self.standardise(grid).expand(beam_size, -1, -1)
        values = self.map(grid).relu()
        keys = self.key(values)
        state = self.initial(values.mean(1)).tanh().chunk(2, dim=1)
        words = torch.full((beam_size, 1), START_ID)
        total = torch.tensor([[0.0]] + [[-torch.inf]] * (beam_size - 1))
        for _ in range(num_words):
            if not self.hoisted:
                values = self.map(grid).relu()
                keys = self.key(values)
            context = self.attend(state[0], values, keys)
            state = self.cell(torch.cat([self.embedding(words[:, -1]), context], 1), state)
            reached = total + self.vocabulary(state[0]).log_softmax(1)
            total, index = reached.flatten().topk(beam_size)
            total, beam = total.unsqueeze(1), index // reached.shape[1]
            words = torch.cat([words[beam], (index % reached.shape[1]).unsqueeze(1)], 1)
            state = tuple(part[beam] for part in state)
        return tuple(words[0, 1:].tolist())


def our_loss(decoder: RecurrentDecoder, features: ImageFeatures, tokens: Tensor) -> Tensor:
    """The mean over words, as in training."""
    return cross_entropy(decoder(features, tokens))


def bf16_pays() -> bool:
    """Whether it is faster than fp32 here."""
    return resolve_precision("auto", torch.device("cpu")) == "bf16-mixed"


class Products(TorchDispatchMode):
    """Remembers the matrix products of a work, with what is multiplied."""

    KINDS = frozenset(
        getattr(torch.ops.aten, name)
        for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "addmv_")
    )

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in self.KINDS:
            self.calls.append((func, args, kwargs))
        return func(*args, **kwargs)

    @torch.no_grad()
    def compute_again(self) -> None:
        """Nothing but the products."""
        for function, args, options in self.calls:
            function(*args, **options)


class Seconds(NamedTuple):
    """Of the best step."""

    cpu: float
    wall: float

    def over(self, other: Seconds, factor: float = 1.0) -> str:
        """How many times as long, CPU and wall."""
        cpu, wall = factor * self.cpu / other.cpu, factor * self.wall / other.wall
        return f"{cpu:6.2f}x ({wall:.2f}x)".ljust(20)


def best_seconds(repeats: int, *losses: Callable[[], Tensor]) -> list[Seconds]:
    """Of each one's step, taken in turns."""
    return best_of(repeats, *(lambda loss=loss: loss().backward() for loss in losses))


def best_of(repeats: int, *works: Callable[[], object]) -> list[Seconds]:
    """Of each work, taken in turns."""
    taken: list[list[Seconds]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for each, work in zip(taken, works, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            each.append(Seconds(time.process_time() - cpu, time.perf_counter() - wall))
    return [
        Seconds(*(min(kind) for kind in zip(*each[1:], strict=True)))  # the first warms up
        for each in taken
    ]


def captions(sizes: Sizes, num_images: int, per_image: int) -> Tensor:
    """Tokens (B, N, T)."""
    lengths = torch.randint(8, 17, (num_images, per_image, 1))
    position = torch.arange(18)
    tokens = torch.randint(4, sizes.vocabulary, (num_images, per_image, 18))
    tokens[..., 0] = START_ID
    tokens[(position == lengths + 1).expand_as(tokens)] = END_ID
    return tokens.masked_fill(position > lengths + 1, PAD_ID)


def uneven_captions(sizes: Sizes) -> Tensor:
    """Tokens (B, 5, T), with lengths spread as those of Flickr8k."""
    lengths = torch.distributions.Gamma(6.0, 0.5).sample((sizes.num_captions, 5, 1)).ceil()
    position = torch.arange(int(lengths.max()) + 2)
    tokens = torch.randint(4, sizes.vocabulary, (sizes.num_captions, 5, len(position)))
    tokens[..., 0] = START_ID
    tokens[(position == lengths + 1).expand_as(tokens)] = END_ID
    return tokens.masked_fill(position > lengths + 1, PAD_ID)


def decoder_of(sizes: Sizes, kind: type[Conditioning], **options: object) -> RecurrentDecoder:
    """An LSTM decoder."""
    state_shape = StateShape.of("lstm", 1, sizes.hidden)
    make: Callable[..., Conditioning] = kind
    part = make(sizes.features, sizes.hidden, state_shape, **options, dropout=0.0)
    return RecurrentDecoder("lstm", sizes.hidden, sizes.hidden, 1, 0.0, part, sizes.vocabulary)


def without_attention(sizes: Sizes) -> Iterator[str]:
    """Ours over bare, lower is better."""
    tokens = captions(sizes, sizes.num_captions, 1)
    pooled = torch.randn(sizes.num_captions, sizes.channels)
    features = ImageFeatures(pooled.unsqueeze(1), pooled)
    kinds: dict[str, tuple[type[Conditioning], dict[str, object]]] = {
        "init_inject": (InitInjectConditioning, {}),
        "pre_inject": (PreInjectConditioning, {}),
        "par_inject": (ParInjectConditioning, {"image_dim": sizes.hidden, "first_only": False}),
        "par_inject, first only": (
            ParInjectConditioning,
            {"image_dim": sizes.hidden, "first_only": True},
        ),
        "merge, add, dense": (MergeConditioning, {"combine": "add", "dense": True}),
        "merge, concatenate": (MergeConditioning, {"combine": "concatenate", "dense": False}),
    }
    yield f"training step of {sizes.num_captions} captions over a bare nn.LSTM + output layer:"
    yield f"{'CPU (wall)':>30}   of the same sizes   of {sizes.hidden} throughout"
    for name, (kind, options) in kinds.items():
        decoder = decoder_of(sizes, kind, **options)
        part = decoder.conditioning
        bare = [
            Bare(sizes.vocabulary, sizes.hidden, inputs, sizes.hidden, outputs)
            for inputs, outputs in (
                (part.input_dim, part.output_dim),
                (sizes.hidden, sizes.hidden),
            )
        ]
        ours, same, plain = best_seconds(
            2 * sizes.repeats,
            lambda decoder=decoder: our_loss(decoder, features, tokens),
            lambda bare=bare: bare[0].loss(tokens[:, 0]),
            lambda bare=bare: bare[1].loss(tokens[:, 0]),
        )
        yield f"  {name:<30} {ours.over(same)}{ours.over(plain)}"


def beside_torch(sizes: Sizes) -> Iterator[str]:
    """Ours over torch's layers on padded captions of Flickr8k's size, higher is better."""
    sizes = replace(sizes, vocabulary=min(2531, sizes.vocabulary))
    tokens = uneven_captions(sizes)
    pooled = torch.randn(len(tokens), sizes.channels)
    features = ImageFeatures(pooled.unsqueeze(1), pooled)
    lengths = (tokens[..., 1:] != PAD_ID).sum(-1) - 1
    share = num_words(tokens) / tokens[..., 1:].numel()
    yield (
        f"training step of {len(tokens)} images, five captions of {lengths.float().mean():.0f} "
        f"words each, the longest of {lengths.max()} (padding: {1 - share:.0%}), pre-inject, "
        "dropout 0.5; torch's layers and dropout take so many times as long:"
    )

    def step(way: Callable[..., Any], decoder: RecurrentDecoder, bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, bf16):
            return cross_entropy(way(decoder, features, tokens))

    cells: tuple[Cell, ...] = ("lstm", "gru", "rnn")
    for cell in cells:
        shape = StateShape.of(cell, 1, sizes.hidden)
        image = PreInjectConditioning(sizes.features, sizes.hidden, shape, 0.0)
        decoder = RecurrentDecoder(
            cell, sizes.hidden, sizes.hidden, 1, 0.5, image, sizes.vocabulary
        )
        theirs = copy.deepcopy(decoder)
        theirs.dropout, theirs.output_dropout = nn.Dropout(0.5), nn.Dropout(0.5)
        for bf16 in (True, False) if bf16_pays() else (False,):
            ours, torchs = best_seconds(
                sizes.repeats,
                partial(step, teacher_forcing.teacher_forcing, decoder, bf16),
                partial(step, teacher_forcing._padded, theirs, bf16),
            )
            yield f"  {cell:<5}{'bf16' if bf16 else 'fp32':<6} {torchs.over(ours)}"


def new_batches(sizes: Sizes) -> Iterator[str]:
    """Steps on batches of other lengths each time, over the same ones again, lower is better."""
    if not bf16_pays():
        return
    sizes = replace(sizes, side=7, vocabulary=min(2531, sizes.vocabulary))
    decoder = decoder_of(sizes, AttentionConditioning, feature_dim=512, attention_dim=256)
    grid = torch.randn(sizes.num_captions, sizes.side**2, sizes.channels).relu()
    features = ImageFeatures(grid, grid.mean(1))
    first, *others = [uneven_captions(sizes) for _ in range(8 * sizes.repeats)]

    def steps(batches: list[Tensor]) -> float:
        began = time.process_time()
        for tokens in batches:
            with torch.autocast("cpu", torch.bfloat16):
                loss = our_loss(decoder, features, tokens)
            loss.backward()
        return time.process_time() - began

    steps([first])
    ratio = steps(others) / steps(others)
    yield (
        f"attention in bf16, {len(others)} batches of five captions of uneven lengths: the first "
        f"steps take {ratio:.2f}x the time of the same ones again"
    )


def with_attention(sizes: Sizes) -> Iterator[str]:
    """The tutorials' over ours, higher is better."""
    grid = torch.randn(sizes.num_captions, sizes.side**2, sizes.channels).relu()
    features = ImageFeatures(grid, grid.mean(1))
    one, five = (captions(sizes, sizes.num_captions, each) for each in (1, 5))
    decoder = decoder_of(
        sizes, AttentionConditioning, feature_dim=sizes.hidden, attention_dim=sizes.hidden
    )
    with torch.no_grad():  # predictions that depend on every layer, as after training
        decoder.vocabulary_layer.weight.mul_(20)
    tutorial, hoisted = Tutorial(decoder, hoisted=False), Tutorial(decoder, hoisted=True)

    def in_bf16(tokens: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return our_loss(decoder, features, tokens)

    works = {
        "ours, fp32": lambda: our_loss(decoder, features, one),
        "ours, bf16": lambda: in_bf16(one),
        "ours, fp32, five captions per image": lambda: our_loss(decoder, features, five),
        "ours, bf16, five captions per image": lambda: in_bf16(five),
    }
    if not bf16_pays():
        works = {name: work for name, work in works.items() if "bf16" not in name}
    seconds = best_seconds(
        sizes.repeats,
        lambda: tutorial.loss(grid, one[:, 0]),
        lambda: hoisted.loss(grid, one[:, 0]),
        *works.values(),
    )
    yield (
        f"attention, words per second, steps of {sizes.num_captions} images, CPU (wall); the "
        "tutorial's and the hoisted are in fp32:"
    )
    yield f"{'':<40}over the tutorial's over the hoisted"
    for name, each in zip(works, seconds[2:], strict=True):
        words = num_words(five if "five" in name else one) / num_words(one)
        yield f"  {name:<38}{seconds[0].over(each, words)}{seconds[1].over(each, words)}"
    yield from equality(decoder, features, one, tutorial, hoisted)

    for name, work in works.items():
        products = Products()
        with products:
            work().backward()
        step, alone = best_of(
            sizes.repeats, lambda work=work: work().backward(), products.compute_again
        )
        yield (
            f"  {name}: {1e3 * step.wall:.0f} ms, over its {len(products.calls)} matrix products "
            f"alone, as they are: {step.over(alone)}"
        )


def with_beams(sizes: Sizes) -> Iterator[str]:
    """The tutorials' search over ours, higher is better; no caption ends, so both do the same."""
    work = Beams(sizes)
    num_theirs = max(1, sizes.num_captions // 8)  # of the images
    tutorial, hoisted = (Tutorial(work.decoder, hoisted=each).eval() for each in (False, True))
    captions: dict[str, list[tuple[int, ...]]] = {}

    def search(name: str, theirs: Tutorial) -> None:
        grids = work.features.grid[:num_theirs].split(1)
        captions[name] = [theirs.beam(grid, work.search.beam_size, NUM_WORDS) for grid in grids]

    def ours(name: str) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "ours, bf16"):
            captions[name] = [caption.tokens for caption in work.run()]

    names = ["ours, fp32", *(["ours, bf16"] if bf16_pays() else [])]
    seconds = best_of(
        sizes.repeats,
        lambda: search("theirs", tutorial),
        lambda: search("hoisted", hoisted),
        *(lambda name=name: ours(name) for name in names),
    )
    share = sizes.num_captions / num_theirs
    yield (
        f"beam {work.search.beam_size}, images per second, {sizes.num_captions} at a time over one "
        f"(in fp32) at a time, captions of {NUM_WORDS} words, CPU (wall):"
    )
    yield f"{'':<40}over the tutorial's over the hoisted"
    for name, each in zip(names, seconds[2:], strict=True):
        yield f"  {name:<38}{seconds[0].over(each, share)}{seconds[1].over(each, share)}"
    same = captions["theirs"] == captions["hoisted"] == captions["ours, fp32"][:num_theirs]
    yield f"  {'equal' if same else 'UNEQUAL'} captions of {num_theirs} images"
    if platform.system() == "Linux":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak = pool.apply(peak_bytes, (sizes,))
        yield f"  {peak / 1e9:.2f} GB at its peak, features, Python and torch counted"
    with FlopCounterMode(display=False) as counter:
        work.run()
    flops, rate = counter.get_total_flops(), matrix_product_rate(torch.float32)
    yield (
        f"  ours, fp32: {1e3 * seconds[2].wall:.0f} ms; its {flops / 1e9:.0f} Gflop of matrix "
        f"products take {1e3 * flops / rate:.0f} ms at the {rate / 1e12:.2f} Tflop/s of a large one"
    )


class Beams:
    """Our search for captions of one batch, none of which ends before `NUM_WORDS`."""

    def __init__(self, sizes: Sizes) -> None:
        torch.manual_seed(0)
        grid = torch.randn(sizes.num_captions, sizes.side**2, sizes.channels).relu()
        self.features = ImageFeatures(grid, grid.mean(1))
        self.decoder = decoder_of(
            sizes, AttentionConditioning, feature_dim=sizes.hidden, attention_dim=sizes.hidden
        ).eval()
        with torch.no_grad():
            self.decoder.vocabulary_layer.weight.mul_(20)
            self.decoder.vocabulary_layer.bias[: UNKNOWN_ID + 1] = -1e4  # no word's
        self.search = BeamSearch(NUM_WORDS, beam_size=5, length_penalty=0.0)

    def run(self) -> list[Hypothesis]:
        return self.search(self.decoder, self.features)


def peak_bytes(sizes: Sizes) -> int:
    """Resident memory of a fresh process that makes features and searches once."""
    Beams(sizes).run()
    # What getrusage tells has the process in it out of which this one was started.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise AssertionError("no VmHWM")


def equality(
    decoder: RecurrentDecoder, features: ImageFeatures, tokens: Tensor, *theirs: Tutorial
) -> Iterator[str]:
    """Whether loss and gradient are the tutorial's."""
    weights = [decoder.conditioning.get_parameter("key.weight")]
    weights += [each.key.weight for each in theirs]
    losses = [our_loss(decoder, features, tokens)]
    losses += [each.loss(features.grid, tokens[:, 0]) for each in theirs]
    grads = [torch.autograd.grad(*pair)[0] for pair in zip(losses, weights, strict=True)]
    loss = max(abs(float((each / losses[0] - 1).detach())) for each in losses[1:])
    grad = max(float((each - grads[0]).norm() / grads[0].norm()) for each in grads[1:])
    verdict = "equal" if max(loss, grad) < 1e-5 else "UNEQUAL"
    yield f"  {verdict} to 1e-5: losses {loss:.0e} apart, gradients of the keys {grad:.0e}"


def num_words(tokens: Tensor) -> int:
    """To be predicted."""
    return int((tokens[:, :, 1:] != PAD_ID).sum())


def matrix_product_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large product."""
    left, right = torch.randn(2, 2048, 2048).to(dtype)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * 2048**3 / best


def large_products(sizes: Sizes) -> Iterator[str]:
    """What the processor makes of both number formats."""
    fp32, bf16 = (matrix_product_rate(dtype) for dtype in (torch.float32, torch.bfloat16))
    auto = resolve_precision("auto", torch.device("cpu"))
    yield (
        f"large products: {fp32 / 1e12:.2f} Tflop/s in fp32, in bf16 {bf16 / fp32:.2f}x as many; "
        f"trainer.precision=auto is {auto} here"
    )


if __name__ == "__main__":
    from captionlab.runs.engine import keep_freed_memory  # imports much that `peak_bytes` does not

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    torch.manual_seed(0)
    chosen = Sizes(8, 7, 256, 1000, 128, 2) if parser.parse_args().quick else Sizes()
    keep_freed_memory()
    parts = (large_products, without_attention, beside_torch, new_batches)
    for part in (*parts, with_attention, with_beams):
        for line in part(chosen):
            print(line, flush=True)
