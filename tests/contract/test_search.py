"""What every search keeps, and what beam search finds."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch

from captionlab.decoders import RecurrentDecoder
from captionlab.search import (
    BeamSearch,
    DiverseBeamSearch,
    EnsembleDecoder,
    EnsembleFeatures,
    GreedySearch,
    SampleSearch,
    attention_maps,
    caption_log_probabilities,
    caption_tokens,
    likelihood,
)
from captionlab.types import END_ID, START_ID, Hypothesis, ImageFeatures
from tests.conftest import CELLS, CONDITIONINGS, MakeDecoder, features

EVERY = [*product(CELLS, CONDITIONINGS), ("transformer", "built_in")]


@torch.inference_mode()
def by_likelihood(
    decoder: RecurrentDecoder, image: ImageFeatures, max_length: int, penalty: float
) -> list[Hypothesis]:
    """All finished captions there are, best first, by trying each."""
    found = []
    open_ends = [((), 0.0, decoder.start(image), START_ID)]
    for _ in range(max_length + 1):
        longer = []
        for words, total, state, last in open_ends:
            log_probs, after = decoder.step(torch.tensor([last]), state)
            end = total + float(log_probs[0, END_ID])
            found.append(Hypothesis(words, end, end / (len(words) + 1) ** penalty, finished=True))
            if len(words) < max_length:
                for word in range(4, log_probs.shape[1]):
                    told = (*words, word)
                    longer.append((told, total + float(log_probs[0, word]), after, word))
        open_ends = longer
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


@pytest.mark.parametrize(("cell", "conditioning"), EVERY)
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_the_likeliest_of_all_captions(
    make_decoder: MakeDecoder, cell: str, conditioning: str, penalty: float
) -> None:
    decoder = make_decoder(cell, conditioning, vocabulary_size=7).eval()
    images = features(5)
    # Wide enough for 3^4 beginnings, each with its three words and its end.
    found = BeamSearch(max_length=4, beam_size=324, length_penalty=penalty)(decoder, images)
    for i, hypothesis in enumerate(found):
        best = by_likelihood(decoder, images.select(torch.tensor([i])), 4, penalty)[0]
        assert hypothesis.tokens == best.tokens
        assert hypothesis.finished
        assert hypothesis.score == pytest.approx(best.score, abs=1e-5)
        assert hypothesis.log_probability == pytest.approx(best.log_probability, abs=1e-5)


RULES = (  # and the length penalty at which they bite: a large one favours long captions
    ({"min_length": 3}, 0.0),
    ({"block_ngrams": 1}, 2.0),
    ({"block_ngrams": 2}, 2.0),
    ({"forbidden_endings": (4, 6)}, 2.0),
    ({"min_length": 2, "block_ngrams": 2, "forbidden_endings": (5,)}, 0.7),
)


def obeys(
    words: tuple[int, ...],
    min_length: int = 0,
    block_ngrams: int | None = None,
    forbidden_endings: tuple[int, ...] = (),
) -> bool:
    n = block_ngrams or len(words) + 1
    ngrams = [words[i : i + n] for i in range(len(words) - n + 1)]
    ends_well = not words or words[-1] not in forbidden_endings
    return len(words) >= min_length and len(set(ngrams)) == len(ngrams) and ends_well


@pytest.mark.parametrize(("rules", "penalty"), RULES)
@pytest.mark.parametrize("conditioning", ["attention", "pre_inject"])
def test_under_rules_it_finds_the_likeliest_that_obeys(
    make_decoder: MakeDecoder, conditioning: str, rules: dict[str, Any], penalty: float
) -> None:
    decoder, images = make_decoder("lstm", conditioning, vocabulary_size=7).eval(), features(8)
    found = BeamSearch(4, 81, penalty, **rules)(decoder, images)
    free = BeamSearch(4, 81, penalty)(decoder, images)
    for i, hypothesis in enumerate(found):
        every = by_likelihood(decoder, images.select(torch.tensor([i])), 4, penalty)
        best = next(one for one in every if obeys(one.tokens, **rules))
        assert hypothesis.tokens == best.tokens
        assert hypothesis.log_probability == pytest.approx(best.log_probability, abs=1e-5)
    assert [one.tokens for one in free] != [one.tokens for one in found]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_the_n_best_are_the_likeliest_of_all_captions(
    make_decoder: MakeDecoder, penalty: float
) -> None:
    decoder, images = make_decoder(vocabulary_size=7).eval(), features(4)
    search = BeamSearch(max_length=4, beam_size=81, length_penalty=penalty)
    for i, found in enumerate(search.n_best(decoder, images)):
        every = by_likelihood(decoder, images.select(torch.tensor([i])), 4, penalty)
        assert [one.tokens for one in found[:20]] == [one.tokens for one in every[:20]]
        assert found[19].score == pytest.approx(every[19].score, abs=1e-5)


@pytest.mark.parametrize(
    "search",
    [
        BeamSearch(6, 4, 0.7),
        BeamSearch(6, 4, 0.7, block_ngrams=1, min_length=2),
        DiverseBeamSearch(6, 4, 0.7, 2, 0.5),
        DiverseBeamSearch(6, 4, 0.7, 4, 0.0),  # groups that agree
    ],
)
def test_n_best_captions_are_sorted_distinct_and_begin_with_the_best(
    make_decoder: MakeDecoder, search: BeamSearch
) -> None:
    decoder, images = make_decoder().eval(), features(9)
    for found, best in zip(search.n_best(decoder, images), search(decoder, images), strict=True):
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        assert len({one.tokens for one in found}) == len(found) <= 4
        assert found[0] == best
        assert all(one.finished for one in found) or len(found) == 1


def test_a_caption_that_can_neither_go_on_nor_end_is_returned_as_it_stands(
    make_decoder: MakeDecoder,
) -> None:
    decoder = make_decoder(vocabulary_size=7).eval()  # of three words
    search = BeamSearch(8, 3, 0.7, min_length=5, block_ngrams=1)
    for found in search(decoder, features(5)):
        assert sorted(found.tokens) == [4, 5, 6]
        assert not found.finished


def diverse(
    decoder: RecurrentDecoder, image: ImageFeatures, max_length: int, groups: int, strength: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Algorithm 1 of Vijayakumar et al. with two beams a group, without tensors."""
    root = (0.0, (), decoder.start(image), START_ID)
    beams, finished = [[root] for _ in range(groups)], []
    for t in range(max_length + 1):
        used: Counter[int] = Counter()
        for g in range(groups):
            candidates = []
            for total, words, state, last in beams[g]:
                log_probs, after = decoder.step(torch.tensor([last]), state)
                for word in (END_ID, *range(4, log_probs.shape[1])):
                    told = total + float(log_probs[0, word])
                    rank = told - strength * used[word]
                    candidates.append((rank, told, words, after, word))
            candidates.sort(key=lambda one: -one[0])
            for _, told, words, _, word in candidates[:2]:
                if word == END_ID:
                    finished.append((told / (t + 1) ** 0.7, words))
            going = [one for one in candidates if one[4] != END_ID][:2]
            beams[g] = [
                (told, (*words, word), after, word) for _, told, words, after, word in going
            ]
            used.update(beam[3] for beam in beams[g])
    return sorted(finished, reverse=True)


@pytest.mark.parametrize("strength", [0.0, 0.4, 5.0])
def test_diverse_beams_are_those_of_the_algorithm(
    make_decoder: MakeDecoder, strength: float
) -> None:
    decoder, images = make_decoder("gru").eval(), features(6)
    found = DiverseBeamSearch(5, 6, 0.7, 3, strength)(decoder, images)
    for i, hypothesis in enumerate(found):
        with torch.inference_mode():
            expected = diverse(decoder, images.select(torch.tensor([i])), 5, 3, strength)
        assert hypothesis.tokens == expected[0][1]
        assert hypothesis.score == pytest.approx(expected[0][0], abs=1e-5)


@pytest.mark.parametrize(("cell", "conditioning"), EVERY)
def test_diverse_beam_with_one_group_is_beam(
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
    decoder, images = make_decoder(cell, conditioning).eval(), features(7)
    beam = BeamSearch(6, 4, 0.7).n_best(decoder, images)
    assert DiverseBeamSearch(6, 4, 0.7, 1, 3.0).n_best(decoder, images) == beam


def test_groups_say_different_things(make_decoder: MakeDecoder) -> None:
    decoder, images = make_decoder().eval(), features(6)
    together = DiverseBeamSearch(6, 4, 0.7, 4, 100.0).n_best(decoder, images)
    for found in together:
        for words in zip(*(one.tokens[:3] for one in found), strict=False):
            assert len(set(words)) == len(words)


@pytest.mark.parametrize(("cell", "conditioning"), EVERY)
@pytest.mark.parametrize("max_length", [3, 12])
def test_a_beam_of_one_is_greedy(
    make_decoder: MakeDecoder, cell: str, conditioning: str, max_length: int
) -> None:
    decoder = make_decoder(cell, conditioning).eval()
    greedy = GreedySearch(max_length)(decoder, features(12))
    beam = BeamSearch(max_length, beam_size=1, length_penalty=0.0)(decoder, features(12))
    for one, other in zip(greedy, beam, strict=True):
        assert one.tokens == other.tokens
        assert one.finished == other.finished
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)


@pytest.mark.parametrize(("cell", "conditioning"), EVERY)
def test_a_caption_does_not_depend_on_its_batch(
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
    decoder = make_decoder(cell, conditioning).eval()
    images = features(9)
    for search in (
        BeamSearch(8, beam_size=3, length_penalty=0.7),
        BeamSearch(8, 3, 0.7, min_length=2, block_ngrams=2, forbidden_endings=(4, 5)),
        DiverseBeamSearch(8, 4, 0.7, num_groups=2, diversity_strength=0.5),
    ):
        together = [found.tokens for found in search(decoder, images)]
        alone = [search(decoder, images.select(torch.tensor([i])))[0].tokens for i in range(9)]
        assert together == alone


def test_a_wider_beam_is_never_less_likely_in_sum(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder().eval()
    scores = [
        sum(found.score for found in BeamSearch(6, size, 0.0)(decoder, features(16)))
        for size in (1, 3, 49)
    ]
    assert scores[0] <= scores[1] + 1e-4
    assert scores[1] <= scores[2] + 1e-4


@pytest.mark.parametrize(
    "search", [GreedySearch(3), BeamSearch(3, 3, 0.7), DiverseBeamSearch(3, 4, 0.7, 2, 0.5)]
)
def test_a_caption_that_never_ends_is_returned_unfinished(
    make_decoder: MakeDecoder, search: GreedySearch | BeamSearch
) -> None:
    decoder = make_decoder().eval()
    with torch.no_grad():
        decoder.vocabulary.bias[END_ID] = -1e4
    for found in search(decoder, features(4)):
        assert len(found.tokens) == 3
        assert not found.finished


def test_no_caption_holds_a_special_word(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder().eval()
    with torch.no_grad():
        decoder.vocabulary.bias[:4] += 5.0
    for search in (GreedySearch(6), BeamSearch(6, 3, 0.7)):
        for found in search(decoder, features(6)):
            assert all(word >= 4 for word in found.tokens)


@pytest.mark.parametrize("arguments", [(5, 0, 0.7), (5, 3, -1.0), (0, 3, 0.7)])
def test_sizes_that_cannot_be_are_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="at least"):
        BeamSearch(*arguments)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min_length": -1}, "min_length must be at least 0"),
        ({"block_ngrams": 0}, "block_ngrams at least 1"),
        ({"min_length": 6}, "min_length must be at most max_length, found 6 and 5"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BeamSearch(5, 3, 0.7, **rules)


@pytest.mark.parametrize(("groups", "strength"), [(0, 0.5), (3, 0.5), (2, -0.1)])
def test_groups_that_cannot_be_are_refused(groups: int, strength: float) -> None:
    with pytest.raises(ValueError, match="num_groups must divide beam_size"):
        DiverseBeamSearch(5, 4, 0.7, groups, strength)


@pytest.mark.parametrize(("cell", "conditioning"), EVERY)
def test_sampling_towards_zero_is_greedy(
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
    decoder = make_decoder(cell, conditioning).eval()
    greedy = GreedySearch(8)(decoder, features(12))
    for cold in (
        SampleSearch(8, 1e-6, None, 1.0, seed=3),
        SampleSearch(8, 1.0, 1, 1.0, seed=3),
        SampleSearch(8, 1.0, None, 1e-6, seed=3),
    ):
        drawn = cold(decoder, features(12))
        assert [found.tokens for found in drawn] == [found.tokens for found in greedy]
        for one, other in zip(drawn, greedy, strict=True):
            assert one.finished == other.finished or len(one.tokens) == 8


def test_words_are_drawn_by_their_probability(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder(vocabulary_size=8).eval()
    image = features(1)
    drawn = SampleSearch(1, 1.0, None, 1.0, seed=0).draw(decoder, image, 20_000)[0]
    assert drawn == SampleSearch(1, 1.0, None, 1.0, seed=0).draw(decoder, image, 20_000)[0]
    with torch.inference_mode():
        log_probs, _ = decoder.step(torch.tensor([START_ID]), decoder.start(image))
    allowed = [END_ID, *range(4, 8)]
    expected = log_probs[0, allowed].softmax(-1).tolist()
    first = [found.tokens[0] if found.tokens else END_ID for found in drawn]
    for word, share in zip(allowed, expected, strict=True):
        assert first.count(word) / 20_000 == pytest.approx(share, abs=0.015)
    narrow = SampleSearch(1, 1.0, 2, 1.0, seed=0).draw(decoder, image, 500)[0]
    assert len({found.tokens for found in narrow}) == 2
    likeliest_two = sorted(zip(expected, allowed, strict=True))[-2:]
    nucleus = SampleSearch(1, 1.0, None, likeliest_two[1][0] + 1e-4, seed=0)
    assert len({found.tokens for found in nucleus.draw(decoder, image, 500)[0]}) == 2


def test_bad_sampling_options_are_refused() -> None:
    for options in ((0.0, None, 1.0), (1.0, 0, 1.0), (1.0, None, 0.0)):
        with pytest.raises(ValueError, match="temperature must be positive"):
            SampleSearch(5, *options, seed=0)


@pytest.mark.parametrize(("cell", "conditioning"), EVERY)
def test_the_likelihood_of_a_caption_is_that_of_its_search(
    make_decoder: MakeDecoder, cell: str, conditioning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "_MOST_TOKENS", 60)  # one caption of each image at a time
    decoder = make_decoder(cell, conditioning).eval()
    images = features(6)
    found = BeamSearch(8, beam_size=3, length_penalty=0.7)(decoder, images)
    tokens = torch.zeros(6, 2, 10, dtype=torch.int64)  # the second caption is all padding
    for i, hypothesis in enumerate(found):
        written = [START_ID, *hypothesis.tokens, *([END_ID] if hypothesis.finished else [])]
        tokens[i, 0, : len(written)] = torch.tensor(written)
    log_probs, counts = caption_log_probabilities(decoder, images, tokens)
    for i, hypothesis in enumerate(found):
        assert float(log_probs[i, 0]) == pytest.approx(hypothesis.log_probability, abs=1e-4)
        assert int(counts[i, 0]) == len(hypothesis.tokens) + hypothesis.finished
    assert log_probs[:, 1].tolist() == [0.0] * 6
    assert counts[:, 1].tolist() == [0] * 6


@pytest.mark.parametrize("conditioning", ["attention", "dot_attention"])
def test_attention_maps_are_where_each_step_looked(
    make_decoder: MakeDecoder, conditioning: str
) -> None:
    decoder = make_decoder("lstm", conditioning).eval()
    images = features(6)
    found = GreedySearch(6)(decoder, images)
    maps = attention_maps(decoder, images, found)
    for i, (caption, told) in enumerate(zip(found, maps, strict=True)):
        assert told.shape == (len(caption.tokens) + caption.finished, 6)
        torch.testing.assert_close(told.sum(1), torch.ones(len(told)))
        state = decoder.start(images.select(torch.tensor([i])))
        for word, looked in zip((START_ID, *caption.tokens), told, strict=False):
            hidden = state.memory[0][-1].unsqueeze(0)
            _, expected = decoder.conditioning.attend(hidden, state.image)
            torch.testing.assert_close(looked, expected[0, 0])
            _, state = decoder.step(torch.tensor([word]), state)


def test_what_does_not_look_has_no_attention_maps(make_decoder: MakeDecoder) -> None:
    decoder, images = make_decoder(conditioning="merge_add").eval(), features(2)
    with pytest.raises(ValueError, match="does not look at positions"):
        attention_maps(decoder, images, GreedySearch(4)(decoder, images))


def test_an_ensemble_of_one_is_its_decoder(make_decoder: MakeDecoder) -> None:
    decoder, images = make_decoder().eval(), features(6)
    search = BeamSearch(6, 3, 0.7)
    one = search(EnsembleDecoder([decoder]), EnsembleFeatures.of([images]))
    assert one == search(decoder, images)


def test_an_ensemble_knows_the_likelihood_of_its_captions(make_decoder: MakeDecoder) -> None:
    members = [make_decoder("lstm"), make_decoder("gru", "pre_inject", seed=1)]
    ensemble = EnsembleDecoder(members).eval()
    seen = EnsembleFeatures.of([features(6), features(6, seed=9)])
    found = GreedySearch(6)(ensemble, seen)
    tokens = caption_tokens([[each] for each in found], "cpu")
    log_probs, _ = caption_log_probabilities(ensemble, seen, tokens)
    expected = torch.tensor([each.log_probability for each in found])
    torch.testing.assert_close(log_probs[:, 0], expected)


def test_an_ensemble_of_two_averages_probabilities(make_decoder: MakeDecoder) -> None:
    first, second = make_decoder("lstm").eval(), make_decoder("gru", "pre_inject", seed=1).eval()
    ours, theirs = features(3), features(3, seed=9)
    ensemble = EnsembleDecoder([first, second])
    rows = torch.tensor([0, 2])
    with torch.inference_mode():
        state = ensemble.start(EnsembleFeatures.of([ours, theirs]))
        log_probs, state = ensemble.step(torch.full((3,), START_ID), state)
        after, _ = ensemble.step(torch.tensor([4, 5]), ensemble.select(state, rows, rows))
        expected = []
        for decoder, seen in ((first, ours), (second, theirs)):
            begun, own = decoder.step(torch.full((3,), START_ID), decoder.start(seen))
            expected.append(
                (begun, decoder.step(torch.tensor([4, 5]), decoder.select(own, rows, rows))[0])
            )
    for found, (one, other) in zip((log_probs, after), zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(found.exp(), (one.exp() + other.exp()) / 2)
