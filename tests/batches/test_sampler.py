"""The order of training images, and who sees which."""

from __future__ import annotations

import pytest

from captionlab.batches.sampler import EpochSampler, Sharing, StepSampler
from captionlab.errors import ConfigError


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler, again = EpochSampler(10, seed=1), EpochSampler(10, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert list(sampler) == list(again) != first
    assert sorted(first) == list(range(10))


def test_a_seed_may_have_any_number_of_digits() -> None:
    date = 20240101123456
    assert sorted(EpochSampler(10, seed=date)) == list(range(10))
    assert list(EpochSampler(10, seed=date)) != list(EpochSampler(10, seed=date + 1))


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
@pytest.mark.parametrize("num_items", [24, 20])  # the last step is whole, or a half one
def test_the_processes_together_see_in_each_step_what_one_alone_sees(
    num_ranks: int, num_items: int
) -> None:
    alone = list(EpochSampler(num_items, seed=0))
    samplers = [
        StepSampler(EpochSampler(num_items, seed=0), 8, Sharing(num_ranks, rank=rank))
        for rank in range(num_ranks)
    ]
    steps = list(zip(*samplers, strict=True))
    assert len(steps) == len(samplers[0]) == 3
    for i, step in enumerate(steps):
        assert [item for share in step for item in share] == alone[8 * i : 8 * (i + 1)]
        assert max(map(len, step)) - min(map(len, step)) == 0


def test_an_epoch_can_begin_in_its_middle() -> None:
    sampler = StepSampler(EpochSampler(20, seed=0), 8, Sharing())
    sampler.resume(epoch=1, num_steps=2)
    assert len(list(sampler)) == 3, "another epoch"
    sampler.sampler.set_epoch(1)
    rest = list(sampler)
    whole = StepSampler(EpochSampler(20, seed=0), 8, Sharing())
    whole.sampler.set_epoch(1)
    assert rest == list(whole)[2:]
    assert len(sampler) == 3, "the length is that of the whole epoch"


@pytest.mark.parametrize(
    ("sharing", "batch_size", "num_images", "message"),
    [
        (
            Sharing(3),
            32,
            96,
            r"batch_size=32 cannot be shared out evenly over 3 devices; use",
        ),
        (Sharing(1, 5), 32, 96, r"evenly over 1 device x 5 accumulated batches"),
        (Sharing(2, 3), 32, 96, r"2 devices x 3 accumulated batches; use a multiple of 6"),
        (Sharing(4), 8, 19, r"an epoch of 19 images has 3, too few for 4 devices"),
    ],
)
def test_what_does_not_divide_is_refused(
    sharing: Sharing, batch_size: int, num_images: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sharing.check_last_batch(num_images, sharing.images_per_step(batch_size, False))


def test_a_batch_per_device_makes_a_larger_step() -> None:
    assert Sharing(3, 2).images_per_step(32, per_device=True) == 192
    assert Sharing(2, 2).images_per_step(32, per_device=False) == 32


def test_batches_of_like_length_are_still_shuffled() -> None:
    lengths = [(7 * i) % 23 for i in range(400)]
    sampler = EpochSampler(400, 0, lengths=lengths, pool=200)
    order = list(sampler)
    assert sorted(order) == list(range(400))
    spread = [
        max(lengths[j] for j in order[i : i + 4]) - min(lengths[j] for j in order[i : i + 4])
        for i in range(0, 400, 4)
    ]
    assert max(spread) <= 1
    firsts = [lengths[order[i]] for i in range(0, 200, 4)]
    assert firsts != sorted(firsts)
    sampler.set_epoch(1)
    assert list(sampler) != order
