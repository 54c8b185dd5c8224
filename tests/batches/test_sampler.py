"""The order of training images."""

from __future__ import annotations

from itertools import chain

from captionlab.batches.sampler import EpochSampler


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler, again = EpochSampler(10, seed=1, shuffle=True), EpochSampler(10, seed=1, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert list(sampler) == list(again) != first
    assert sorted(first) == list(range(10))
    assert list(EpochSampler(4, seed=1, shuffle=False)) == [0, 1, 2, 3]


def test_ranks_share_all_items_and_evaluation_repeats_none() -> None:
    def shares(num_items: int, shuffle: bool) -> list[list[int]]:
        found = []
        for rank in range(3):
            sampler = EpochSampler(num_items, seed=0, shuffle=shuffle)
            sampler._place = lambda rank=rank: (rank, 3)  # type: ignore[method-assign]
            found.append(list(sampler))
            assert len(found[-1]) == len(sampler)
        return found

    assert sorted(chain(*shares(10, shuffle=False))) == list(range(10))
    training = shares(10, shuffle=True)
    assert [len(share) for share in training] == [4, 4, 4], "ranks must take equally many steps"
    assert set(chain(*training)) == set(range(10))


def test_batches_of_like_length_are_still_shuffled() -> None:
    lengths = [(7 * i) % 23 for i in range(400)]
    sampler = EpochSampler(400, 0, True, lengths=lengths, pool=200)
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
