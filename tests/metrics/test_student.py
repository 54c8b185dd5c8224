"""What a few seeds show."""

from __future__ import annotations

import numpy as np
import pytest

from captionlab.metrics.student import smallest_difference, two_sided_t


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [(12.706205, 1, 0.05), (2.776445, 4, 0.05), (1.812461, 10, 0.1), (0.0, 3, 1.0)],
)
def test_t_against_a_table(t: float, freedom: float, p: float) -> None:
    assert two_sided_t(t, freedom) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("num_runs", [2, 3, 5, 10])
def test_smallest_difference_is_found_in_four_of_five_simulated_comparisons(num_runs: int) -> None:
    generator = np.random.default_rng(num_runs)
    deviation, num_comparisons = 1.7, 4000
    first, second = generator.normal(0, deviation, size=(2, num_comparisons, num_runs))
    second += smallest_difference(deviation, num_runs)
    a, b = first.var(axis=1, ddof=1) / num_runs, second.var(axis=1, ddof=1) / num_runs
    t = np.abs(second.mean(axis=1) - first.mean(axis=1)) / np.sqrt(a + b)
    freedom = (a + b) ** 2 / ((a**2 + b**2) / (num_runs - 1))
    found = [two_sided_t(*pair) < 0.05 for pair in zip(t, freedom, strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)  # four standard errors


def test_with_many_runs_the_power_is_the_textbooks() -> None:
    # Cohen 1988, table 2.4.1: 64 in each group for d = 0.50, 26 for d = 0.80.
    assert smallest_difference(1.0, 64) == pytest.approx(0.50, abs=0.005)
    assert smallest_difference(1.0, 26) == pytest.approx(0.80, abs=0.01)
