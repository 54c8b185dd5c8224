"""Corpus scores from sums, and which differences are real."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captionlab.metrics.resampling import CorpusStatistics
from captionlab.metrics.significance import compare, holm
from tests.metrics.test_caption_metrics import nasty
from tests.metrics.tokenized import score_tokenized


def statistics(seed: int, num_images: int = 60, shift: float = 0.0) -> CorpusStatistics:
    """Of a system whose CIDEr-D is random, better by `shift`."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1.0 + shift, 0.3, num_images).tolist()
    lengths = rng.integers(8, 12, num_images)
    correct = np.stack([lengths // (k + 2) for k in range(4)])
    guessed = np.stack([lengths - k for k in range(4)])
    rows = np.concatenate([correct, guessed, lengths[None], lengths[None] + 1]).T.tolist()
    return CorpusStatistics({"cider_d": values, "bleu_1": values}, {"bleu": rows})


def test_sums_give_the_scores_of_all_and_of_a_part() -> None:
    references, captions = nasty(2, 40)
    captions["0"] = references["0"][0]  # METEOR forgives the one chunk of a whole match
    metrics = ("bleu", "cider_d", "meteor", "rouge_l")
    scores = score_tokenized(references, captions, metrics)
    run = CorpusStatistics(scores.per_image, scores.statistics)
    whole = run.scores(run.columns.sum(axis=0, keepdims=True))
    assert whole.keys() == scores.corpus.keys()
    for name, values in whole.items():
        assert values[0] == pytest.approx(scores.corpus[name], abs=1e-12), name

    part = [image for i, image in enumerate(references) if i % 3 == 0]
    some = {image: references[image] for image in part}
    weights = np.array([[float(i % 3 == 0) for i in range(40)]])
    resampled = run.scores(weights @ run.columns, num_images=len(part))
    expected = score_tokenized(some, captions, ("bleu", "meteor", "rouge_l")).corpus
    for name, value in expected.items():
        assert resampled[name][0] == pytest.approx(value, abs=1e-12), name
    cider = np.mean([v for i, v in enumerate(scores.per_image["cider_d"]) if i % 3 == 0])
    assert resampled["cider_d"][0] == pytest.approx(cider), "document frequencies of the whole"


def test_equal_systems_do_not_differ_and_better_ones_do() -> None:
    same = compare([[statistics(0)], [statistics(0)]], num_resamples=500)
    assert {test.score for test in same.tests} == {
        "bleu_1",
        "bleu_2",
        "bleu_3",
        "bleu_4",
        "cider_d",
    }
    for test in same.tests:
        assert test.difference == 0
        assert test.p_bootstrap == 1
        assert test.p_randomisation == 1
        assert test.p_seeds is None
    better = compare([[statistics(0, shift=0.5)], [statistics(1)]], num_resamples=500)
    (cider,) = (test for test in better.tests if test.score == "cider_d")
    assert cider.low < 0.5 < cider.high
    assert cider.low > 0
    assert cider.p_bootstrap < 0.01
    assert cider.p_randomisation is not None
    assert cider.p_randomisation < 0.01
    interval = better.intervals[0]["cider_d"]
    assert interval.low < interval.value < interval.high


def test_what_was_observed_counts_as_one_of_the_resamples() -> None:
    found = compare([[statistics(0, shift=5.0)], [statistics(1)]], num_resamples=200)
    (cider,) = (test for test in found.tests if test.score == "cider_d")
    assert cider.p_bootstrap == pytest.approx(2 / 201), "two-sided"
    assert cider.p_randomisation == pytest.approx(1 / 201)


def test_intervals_are_of_95_percent() -> None:
    """A mean over images lies within 1.96 standard errors."""
    first, second = statistics(0, num_images=400), statistics(1, num_images=400, shift=0.1)
    found = compare([[first], [second]])
    (cider,) = (test for test in found.tests if test.score == "cider_d")
    each = np.eye(400)
    values = [run.scores(each @ run.columns, 1)["cider_d"] for run in (first, second)]
    interval = found.intervals[0]["cider_d"]
    for low, high, sample in (
        (interval.low, interval.high, values[0]),
        (cider.low, cider.high, values[0] - values[1]),
    ):
        expected = 2 * 1.96 * sample.std() / 20  # the root of 400
        assert high - low == pytest.approx(expected, rel=0.05)


def test_chance_is_called_real_as_often_as_it_says() -> None:
    comparisons = [
        compare([[statistics(2 * k, 40)], [statistics(2 * k + 1, 40)]], num_resamples=200)
        for k in range(200)
    ]
    tests = [t for comparison in comparisons for t in comparison.tests if t.score == "cider_d"]
    for p_values in ([t.p_bootstrap for t in tests], [t.p_randomisation or 0.0 for t in tests]):
        share = np.mean([p < 0.05 for p in p_values])
        assert 0.01 < share < 0.11, "of 200 pairs of equal systems, about one in twenty"


def test_seeds_are_another_question_than_images() -> None:
    # Every seed of the first is better by the same, but seeds vary as much.
    first = [statistics(0, 400, shift) for shift in (0.5, 0.0, -0.4)]
    second = [statistics(0, 400, shift) for shift in (0.3, -0.2, -0.6)]
    (test,) = (t for t in compare([first, second], 500).tests if t.score == "cider_d")
    assert test.difference == pytest.approx(0.2)
    assert test.p_bootstrap < 0.01
    assert test.p_seeds is not None
    assert test.p_seeds > 0.5
    (uneven,) = (t for t in compare([first, second[:2]], 500).tests if t.score == "cider_d")
    assert uneven.p_randomisation is None
    assert uneven.p_seeds is not None


def test_welch_against_a_table() -> None:
    # t = 2.0 with 10 degrees of freedom; two groups of 6 of equal variance.
    spread = np.array([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0])
    gap = 2.0 * np.sqrt(2 * spread.var(ddof=1) / 6)

    def systems(mean: float) -> list[CorpusStatistics]:
        return [CorpusStatistics({"cider_d": [mean + x] * 3}, {}) for x in spread]

    (test,) = compare([systems(5.0 + gap), systems(5.0)], 20).tests
    assert test.p_seeds == pytest.approx(0.0733880, abs=1e-6)


def test_welch_of_unequal_variances_has_the_freedom_of_the_larger() -> None:
    # t = 2.0 with 1 degree of freedom, where Student's distribution is Cauchy's.
    systems = [
        [CorpusStatistics({"cider_d": [value] * 3}, {}) for value in values]
        for values in ([1.0, 3.0], [0.0, 0.0])
    ]
    (test,) = compare(systems, 20).tests
    assert test.p_seeds == pytest.approx(1 - 2 / math.pi * math.atan(2), abs=1e-6)


@pytest.mark.parametrize(("other", "expected"), [(0.6, None), (0.5, 1.0)])
def test_runs_that_do_not_vary_show_nothing_of_seeds(other: float, expected: float | None) -> None:
    systems = [[CorpusStatistics({"cider_d": [v] * 3}, {})] * 2 for v in (0.5, other)]
    (test,) = compare(systems, 20).tests
    assert test.p_seeds == expected


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, 0.06, pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.01, None, 0.02], num_untested=2) == [pytest.approx(0.04), None, 0.06]


def test_runs_on_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        compare([[statistics(0, 10)], [statistics(0, 11)]])


def test_pairs_that_are_chosen_get_what_all_pairs_would_get_before_correction() -> None:
    systems = [[statistics(k, shift=0.1 * k)] for k in range(3)]
    (one,) = (t for t in compare(systems, 300, pairs=[(0, 2)]).tests if t.score == "cider_d")
    alone = compare([systems[0], systems[2]], 300)
    (expected,) = (t for t in alone.tests if t.score == "cider_d")
    assert expected.p_randomisation is not None
    assert one.difference == expected.difference
    assert one.p_randomisation == 3 * expected.p_randomisation, "corrected for all three pairs"


def test_tests_do_not_depend_on_the_blocks_in_which_resamples_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    systems = [[statistics(0, 45)], [statistics(1, 45)]]
    whole = compare(systems, 300).tests
    monkeypatch.setattr("captionlab.metrics.significance._BLOCK_BYTES", 7 * 8 * 45)
    for one, other in zip(whole, compare(systems, 300).tests, strict=True):
        assert one.p_randomisation == other.p_randomisation
        assert one.p_bootstrap == other.p_bootstrap


def test_systems_that_differ_on_few_images_tie_exactly_under_exchange() -> None:
    # Half of the exchanges leave the one differing image alone and half mirror the difference:
    # every exchange is as extreme as what was observed, whatever rounding does to the sums.
    values = np.random.default_rng(0).random(500).tolist()
    other = [values[0] + 1e-9, *values[1:]]
    systems = [[CorpusStatistics({"cider_d": column}, {})] for column in (values, other)]
    (test,) = compare(systems, 400).tests
    assert test.p_randomisation == 1.0
