"""Student's t: what a few seeds show, and how large a difference must be to be shown by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from captionlab.metrics.protocol import Array

_NUM_SHARES = 32  # of one sample variance in the sum of both, over which power is averaged


def two_sided_t(t: float, freedom: float) -> float:
    """P(|T| >= t) of Student's distribution with `freedom` degrees of freedom.

    With T = sqrt(freedom) tan(u) the density of u is cos(u) ** (freedom - 1) up to a constant.
    """
    low = math.atan(t / math.sqrt(freedom))
    tail = _integral(lambda u: np.cos(u) ** (freedom - 1), low, math.pi / 2, 4000)
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    return min(1.0, 2 * math.exp(constant) / math.sqrt(math.pi) * tail)


def smallest_difference(
    deviation: float, num_runs: int, level: float = 0.05, power: float = 0.8
) -> float:
    """The true difference of two means that Welch's t-test finds with probability `power`.

    Args:
        deviation: standard deviation of the runs of one system, the same for both.
        num_runs: of each system, at least 2.
        level: a difference is found where the two-sided p is below it.
        power: how often it is found, of many repetitions of the whole comparison.

    Source:
        Cohen 1988, ch. 2 (power of the t-test), with the degrees of freedom of Welch 1947, which
        depend on how the two sample variances differ: their share of the sum has the
        distribution Beta((n - 1) / 2, (n - 1) / 2).
    """
    return deviation * math.sqrt(2 / num_runs) * _smallest_shift(num_runs, level, power)


@cache
def _smallest_shift(num_runs: int, level: float, power: float) -> float:
    """In standard errors of the difference."""
    angles = (np.arange(_NUM_SHARES) + 0.5) * (math.pi / 2 / _NUM_SHARES)
    shares = np.sin(angles) ** 2  # of the sum of the variances; equally spaced angles suit its ends
    weights = (np.sin(angles) * np.cos(angles)) ** (num_runs - 2)
    freedoms = (num_runs - 1) / (shares**2 + (1 - shares) ** 2)
    critical = np.array([_critical(level, freedom) for freedom in freedoms])
    weights /= weights.sum()

    def found(shift: float) -> float:
        """P(|T| > critical), T a normal around `shift` over an independent chi of mean square 1."""
        half = num_runs - 1.0

        def density(s: Array) -> Array:
            places = critical[:, None] * s
            beyond = weights @ (_normal_tail(places - shift) + _normal_tail(places + shift))
            constant = math.log(2) + half * math.log(half) - math.lgamma(half)
            product: Array = np.exp(constant - half * s**2) * s ** (2 * half - 1) * beyond
            return product

        return _integral(density, 0.0, 1 + 5 / math.sqrt(half), 200)

    return _root(lambda shift: found(shift) - power, 0.0, 1e3)


def _critical(level: float, freedom: float) -> float:
    return _root(lambda t: level - two_sided_t(t, freedom), 0.0, 1e3)


def _normal_tail(z: Array) -> Array:
    tails = [math.erfc(x / math.sqrt(2)) / 2 for x in z.ravel()]
    return np.array(tails).reshape(z.shape)


def _root(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, by bisection."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return (low + high) / 2


def _integral(
    function: Callable[[Array], Array], low: float, high: float, num_intervals: int
) -> float:
    """By Simpson's rule."""
    places = np.linspace(low, high, num_intervals + 1)
    weights = np.full(len(places), 2.0)
    weights[1::2], weights[0], weights[-1] = 4.0, 1.0, 1.0
    return float(function(places) @ weights) * (high - low) / num_intervals / 3
