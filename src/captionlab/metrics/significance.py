"""Which differences between systems are real: over images, and over seeds.

The two answer different questions and are never mixed. Over images: would these trained models
differ on other images like these? Over seeds: would the systems differ if trained again?
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from captionlab.metrics.protocol import Array
from captionlab.metrics.resampling import CorpusStatistics
from captionlab.metrics.student import two_sided_t

NUM_RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK_BYTES = 2**24  # of a block of resampling weights; larger ones cost page faults
_RUNS_AT_ONCE = 16  # summed by one matrix product
_EXCHANGES_AT_ONCE = 4096  # of images between the systems of a pair
# Values are rounded to multiples of this before images are exchanged. Their sums are then exact in
# any order, and equal systems stay equal whichever way they are summed.
_GRID = 2.0**-36


@dataclass(frozen=True)
class Interval:
    """A corpus score with its bootstrap interval.

    Attributes:
        value: on all images, mean over the system's runs.
        low: end of the central 95 % of the resamples.
        high: the other end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """One score of two systems on the same images.

    Attributes:
        systems: their places in the given order.
        score: its name.
        difference: the first system's minus the second's.
        low: end of the central 95 % of the difference under the paired bootstrap over images.
        high: the other end.
        p_bootstrap: two-sided, paired bootstrap over images, Holm over all pairs of the score.
        p_randomisation: two-sided, approximate randomisation over images, with Holm; None where
            the systems have different numbers of runs.
        p_seeds: two-sided, Welch's t-test over seeds, with Holm; None if either system has fewer
            than two runs, or if the means differ and neither system varies over its runs.
    """

    systems: tuple[int, int]
    score: str
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_randomisation: float | None
    p_seeds: float | None


@dataclass(frozen=True)
class Significance:
    """What resampling says of several systems.

    Attributes:
        intervals: per system, score name to interval.
        tests: of every pair and score.
    """

    intervals: list[dict[str, Interval]]
    tests: list[PairedTest]


def compare(
    systems: Sequence[Sequence[CorpusStatistics]],
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Significance:
    """Intervals of every system and paired tests, for the scores all have.

    A resample draws images with replacement and scores every run of every system on the same
    ones; a system's score is the mean over its runs, which are its seeds.

    Args:
        systems: the runs of each, all on the same images in the same order.
        num_resamples: of the bootstrap and of the randomisation, each.
        seed: of the resampling.
        pairs: places of the systems to test against each other; None for every pair. p-values
            are corrected for every pair in any case: which ones are chosen may rest on the scores.

    Raises:
        ValueError: if a system has no run or the runs have different numbers of images.

    Source:
        Efron & Tibshirani 1993, ch. 13 and 16 (percentile bootstrap); Koehn 2004 (paired
        bootstrap); Noreen 1989 (approximate randomisation); Holm 1979; Welch 1947.
    """
    sizes = {len(run) for runs in systems for run in runs}
    if len(sizes) != 1 or not all(systems):
        raise ValueError(f"runs must score the same images, found {sorted(sizes)} of them.")
    num_images = sizes.pop()
    names = [n for n in systems[0][0].names if all(n in r.names for runs in systems for r in runs)]
    generator = np.random.default_rng(seed)
    whole = np.ones((1, num_images))
    exact = [[_pick(run.scores(whole @ run.columns), names) for run in runs] for runs in systems]
    means = [np.mean(runs, axis=0)[:, 0] for runs in exact]  # (names,) per system
    resampled = _bootstrap(systems, names, num_resamples, generator)
    intervals = [
        {n: Interval(*map(float, (mean[i], *ends[:, i]))) for i, n in enumerate(names)}
        for mean, ends in zip(means, map(_ends, resampled), strict=True)
    ]
    if pairs is None:
        pairs = list(combinations(range(len(systems)), 2))
    p_randomisation = _randomise(systems, pairs, names, num_resamples, generator)

    def test(pair: tuple[int, int], p_random: Array | None) -> _PairResult:
        a, b = pair
        difference = resampled[a] - resampled[b]
        seeds = [[[float(run[i, 0]) for run in exact[s]] for s in pair] for i in range(len(names))]
        return _PairResult(
            difference=means[a] - means[b],
            ends=_ends(difference),
            p_bootstrap=_bootstrap_p(difference),
            p_randomisation=p_random,
            p_seeds=[_welch(*both) for both in seeds],
        )

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = list(threads.map(test, pairs, p_randomisation))
    num_untested = math.comb(len(systems), 2) - len(pairs)
    tests = [
        test for i, n in enumerate(names) for test in _adjusted(i, n, pairs, results, num_untested)
    ]
    return Significance(intervals, tests)


class _PairResult(NamedTuple):
    """Of two systems, for all scores at once; p-values not yet corrected."""

    difference: Array  # (names,)
    ends: Array  # of the interval of the difference, (2, names)
    p_bootstrap: Array  # (names,)
    p_randomisation: Array | None  # (names,)
    p_seeds: list[float | None]


def _adjusted(
    i: int,
    name: str,
    pairs: Sequence[tuple[int, int]],
    results: Sequence[_PairResult],
    num_untested: int,
) -> Iterator[PairedTest]:
    """The tests of the score at place `i`, its p-values corrected for all pairs."""
    bootstrap = holm([float(result.p_bootstrap[i]) for result in results], num_untested)
    randomisation = holm(
        [None if r.p_randomisation is None else float(r.p_randomisation[i]) for r in results],
        num_untested,
    )
    seeds = holm([result.p_seeds[i] for result in results], num_untested)
    for k, (pair, result) in enumerate(zip(pairs, results, strict=True)):
        low, high = map(float, result.ends[:, i])
        p_bootstrap = bootstrap[k]
        assert p_bootstrap is not None
        difference = float(result.difference[i])
        yield PairedTest(pair, name, difference, low, high, p_bootstrap, randomisation[k], seeds[k])


def holm(p_values: Sequence[float | None], num_untested: int = 0) -> list[float | None]:
    """Adjust p-values of one family for being several.

    Args:
        p_values: those that are None stay out of the family.
        num_untested: further members of it, whose p-values are not known.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) + num_untested - rank)))
        adjusted[i] = largest
    return adjusted


def _pick(scores: dict[str, Array], names: Sequence[str]) -> Array:
    """Scores as (names, resamples)."""
    return np.stack([scores[name] for name in names])


def _bootstrap(
    systems: Sequence[Sequence[CorpusStatistics]],
    names: Sequence[str],
    num_resamples: int,
    generator: np.random.Generator,
) -> list[Array]:
    """Per system, scores (names, resamples), mean over its runs; all on the same resamples."""
    blocks: list[list[Array]] = [[] for _ in systems]
    all_runs = [run for runs in systems for run in runs]
    for weights in _bootstrap_weights(num_resamples, len(all_runs[0]), generator):
        scores: list[Array] = []
        for begin in range(0, len(all_runs), _RUNS_AT_ONCE):
            batch = all_runs[begin : begin + _RUNS_AT_ONCE]
            ends = np.cumsum([run.columns.shape[1] for run in batch])
            sums = weights @ np.concatenate([run.columns for run in batch], axis=1)
            parts = np.split(np.asfortranarray(sums), ends[:-1], axis=1)  # scores go by column
            scores += [_pick(run.scores(s), names) for run, s in zip(batch, parts, strict=True)]
        by_run = iter(scores)
        for runs, block in zip(systems, blocks, strict=True):
            block.append(np.mean([next(by_run) for _ in runs], axis=0))
    return [np.concatenate(block, axis=1) for block in blocks]


def _ends(values: Array) -> Array:
    """Ends (2, names) of the central 95 % of values (names, resamples)."""
    ends: Array = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return ends


def _bootstrap_p(differences: Array) -> Array:
    """Two-sided p-values (names,) of resampled differences (names, resamples)."""
    below = np.minimum((differences <= 0).sum(axis=1), (differences >= 0).sum(axis=1))
    p_values: Array = np.minimum(1.0, 2 * (below + 1) / (differences.shape[1] + 1))
    return p_values


def _bootstrap_weights(
    num_resamples: int, num_images: int, generator: np.random.Generator
) -> Iterator[Array]:
    """How often each image is drawn, in blocks (R, images) that fit into memory."""
    for rows in _blocks(num_resamples, num_images):
        images = generator.integers(0, num_images, size=(rows, num_images), dtype=np.int32)
        images += np.arange(rows, dtype=np.int32)[:, None] * num_images
        counts = np.bincount(images.ravel(), minlength=rows * num_images)
        yield counts.reshape(rows, num_images).astype(np.float64)


def _randomise(
    systems: Sequence[Sequence[CorpusStatistics]],
    pairs: Sequence[tuple[int, int]],
    names: Sequence[str],
    num_resamples: int,
    generator: np.random.Generator,
) -> list[Array | None]:
    """Per pair, two-sided p-values of exchanging its captions of images at random.

    All pairs exchange the same images. None where the numbers of runs differ.
    """
    num_images = len(systems[0][0])
    exchange = _Exchange(systems, names)
    comparable = [(a, b) for a, b in pairs if len(systems[a]) == len(systems[b])]
    nothing = exchange.sum(np.zeros((1, num_images)))
    observed = {pair: np.abs(exchange.difference(*pair, nothing)) for pair in comparable}
    extreme = {pair: np.zeros(len(names)) for pair in comparable}
    num_bytes = 4 * -(-num_images // 32)  # the generator gives whole words

    def count(pair: tuple[int, int]) -> None:
        shuffled = np.abs(exchange.difference(*pair, moved))
        extreme[pair] += (shuffled >= observed[pair] * (1 - 1e-12)).sum(axis=1)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for rows in _blocks(num_resamples, num_images) if comparable else ():
            bits = np.frombuffer(generator.bytes(rows * num_bytes), dtype=np.uint8)
            exchanged = np.unpackbits(bits.reshape(rows, num_bytes), axis=1, count=num_images)
            for begin in range(0, rows, _EXCHANGES_AT_ONCE):
                moved = exchange.sum(exchanged[begin : begin + _EXCHANGES_AT_ONCE].astype(float))
                list(threads.map(count, comparable))
    return [
        (extreme[pair] + 1) / (num_resamples + 1) if pair in extreme else None for pair in pairs
    ]


class _Exchange:
    """Systems whose captions of some images are exchanged.

    What moves from one system to another is the sum of the one's columns over the images less
    that of the other's, so that each run is summed once for all its pairs.
    """

    def __init__(self, systems: Sequence[Sequence[CorpusStatistics]], names: Sequence[str]) -> None:
        self._systems, self._names = systems, names
        runs = [run for runs in systems for run in runs]
        columns = np.concatenate([run.columns for run in runs], axis=1)
        self._columns = np.round(columns / _GRID).T * _GRID
        self._whole = self._columns.sum(axis=1)
        ends = np.cumsum([run.columns.shape[1] for run in runs])
        places = iter(slice(e - run.columns.shape[1], e) for e, run in zip(ends, runs, strict=True))
        self._places = [[next(places) for _ in runs] for runs in systems]

    def sum(self, exchanged: Array) -> Array:
        """Over the exchanged images, (R, B), the columns of all runs: (S, R)."""
        sums: Array = self._columns @ exchanged.T
        return sums

    def difference(self, a: int, b: int, sums: Array) -> Array:
        """Scores of `a` less those of `b` after the exchange, mean over runs, (names, R)."""
        total = np.zeros((len(self._names), sums.shape[1]))
        first, second = self._systems[a], self._systems[b]
        places = zip(self._places[a], self._places[b], strict=True)
        for one, other, (mine, theirs) in zip(first, second, places, strict=True):
            moved = sums[theirs] - sums[mine]
            total += _pick(one.scores((self._whole[mine, None] + moved).T), self._names)
            total -= _pick(other.scores((self._whole[theirs, None] - moved).T), self._names)
        return total / len(first)


def _blocks(num_resamples: int, num_images: int) -> Iterator[int]:
    """Numbers of resamples whose weights fit into memory together."""
    block = max(1, _BLOCK_BYTES // (8 * num_images))
    for begin in range(0, num_resamples, block):
        yield min(block, num_resamples - begin)


def _welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of Welch's t-test.

    None where either side has fewer than two values, or the means differ and neither side varies:
    nothing then says by how much seeds make a mean vary.
    """
    if min(len(first), len(second)) < 2:
        return None
    a, b = stdev(first) ** 2 / len(first), stdev(second) ** 2 / len(second)
    difference = fmean(first) - fmean(second)
    if a + b == 0:
        return 1.0 if difference == 0 else None
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return two_sided_t(abs(difference) / math.sqrt(a + b), freedom)
