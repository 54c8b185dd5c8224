"""What every search keeps, and what beam search finds."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from captionlab.decoders import RecurrentDecoder
from captionlab.search import (
    BeamSearch,
    GreedySearch,
    SampleSearch,
    caption_log_probabilities,
)
from captionlab.types import END_ID, START_ID, Hypothesis, ImageFeatures
from tests.conftest import CELLS, CONDITIONINGS, MakeDecoder, features

EVERY = [*product(CELLS, CONDITIONINGS), ("transformer", "built_in")]


def likeliest(
    decoder: RecurrentDecoder, image: ImageFeatures, max_length: int, penalty: float
) -> Hypothesis:
    """The best finished caption of all there are, by trying each."""
    best: Hypothesis | None = None
    open_ends = [((), 0.0, decoder.start(image), START_ID)]
    for _ in range(max_length + 1):
        longer = []
        for words, total, state, last in open_ends:
            log_probs, after = decoder.step(torch.tensor([last]), state)
            end = total + float(log_probs[0, END_ID])
            score = end / (len(words) + 1) ** penalty
            if best is None or score > best.score:
                best = Hypothesis(words, end, score, finished=True)
            if len(words) < max_length:
                for word in range(4, log_probs.shape[1]):
                    told = (*words, word)
                    longer.append((told, total + float(log_probs[0, word]), after, word))
        open_ends = longer
    assert best is not None
    return best


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
        with torch.inference_mode():
            best = likeliest(decoder, images.select(torch.tensor([i])), 4, penalty)
        assert hypothesis.tokens == best.tokens
        assert hypothesis.finished
        assert hypothesis.score == pytest.approx(best.score, abs=1e-5)
        assert hypothesis.log_probability == pytest.approx(best.log_probability, abs=1e-5)


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
    images, search = features(9), BeamSearch(8, beam_size=3, length_penalty=0.7)
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


@pytest.mark.parametrize("search", [GreedySearch(3), BeamSearch(3, 3, 0.7)])
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
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
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
