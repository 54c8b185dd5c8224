"""What every search keeps, and what beam search finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from captionlab.decoders import Decoder
from captionlab.search import (
    BeamSearch,
    DiverseBeamSearch,
    EnsembleDecoder,
    EnsembleFeatures,
    GreedySearch,
    SampleSearch,
    Search,
    attention_maps,
    caption_log_probabilities,
    caption_tokens,
    likelihood,
    word_predictions,
)
from captionlab.types import END_ID, START_ID, Hypothesis, ImageFeatures
from tests.support.decoders import UNSTACKED, WORDS, MakeDecoder, assert_same, features
from tests.support.parts import names, part

ENDINGS = {"vocabulary": WORDS}
every = pytest.mark.parametrize(("cell", "conditioning"), UNSTACKED)


def shipped(name: str) -> Search:
    """A search as its configuration has it, but for short captions."""
    kind, options = part("search", name, vocabulary=WORDS)
    search: Search = kind(**options)
    return search


@torch.inference_mode()
def by_likelihood(
    decoder: Decoder, image: ImageFeatures, max_length: int, penalty: float
) -> list[Hypothesis]:
    """All finished captions there are, best first, by trying each."""
    finished = []
    open_ends = [((), 0.0, decoder.start(image), START_ID)]
    for _ in range(max_length + 1):
        longer = []
        for words, total, state, last in open_ends:
            log_probs, after = decoder.step(torch.tensor([last]), state)
            end = total + float(log_probs[0, END_ID])
            score = end / (len(words) + 1) ** penalty
            finished.append(Hypothesis(words, end, score, finished=True))
            if len(words) < max_length:
                for word in range(4, log_probs.shape[1]):
                    reached = total + float(log_probs[0, word])
                    longer.append(((*words, word), reached, after, word))
        open_ends = longer
    return sorted(finished, key=lambda hypothesis: -hypothesis.score)


@every
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_the_likeliest_of_all_captions(
    make_decoder: MakeDecoder, cell: str, conditioning: str, penalty: float
) -> None:
    decoder = make_decoder(cell, conditioning, vocabulary_size=7).eval()
    images = features(5)
    # Wide enough for 3^4 beginnings, each with its three words and its end.
    captions = BeamSearch(max_length=4, beam_size=324, length_penalty=penalty)(decoder, images)
    alone = [images.select(torch.tensor([i])) for i in range(5)]
    assert_same(captions, [by_likelihood(decoder, image, 4, penalty)[0] for image in alone])


RULES = (  # and the length penalty at which they bite: a large one favours long captions
    ({"min_length": 3}, 0.0),
    ({"block_ngrams": 1}, 2.0),
    ({"block_ngrams": 2}, 2.0),
    ({"forbidden_endings": ("a", "c")}, 2.0),
    ({"min_length": 2, "block_ngrams": 2, "forbidden_endings": ("b",)}, 0.7),
)


def obeys(
    words: tuple[int, ...],
    min_length: int = 0,
    block_ngrams: int | None = None,
    forbidden_endings: tuple[str, ...] = (),
) -> bool:
    n = block_ngrams or len(words) + 1
    ngrams = [words[i : i + n] for i in range(len(words) - n + 1)]
    ends_well = not words or WORDS.decode(words[-1:]) not in forbidden_endings
    return len(words) >= min_length and len(set(ngrams)) == len(ngrams) and ends_well


@pytest.mark.parametrize(("rules", "penalty"), RULES)
@pytest.mark.parametrize("conditioning", ["attention", "pre_inject"])
def test_under_rules_it_finds_the_likeliest_that_obeys(
    make_decoder: MakeDecoder, conditioning: str, rules: dict[str, Any], penalty: float
) -> None:
    decoder, images = make_decoder("lstm", conditioning, vocabulary_size=7).eval(), features(8)
    captions = BeamSearch(4, 81, penalty, **rules, **ENDINGS)(decoder, images)
    free = BeamSearch(4, 81, penalty)(decoder, images)
    expected = []
    for i in range(8):
        ranked = by_likelihood(decoder, images.select(torch.tensor([i])), 4, penalty)
        expected.append(next(one for one in ranked if obeys(one.tokens, **rules)))
    assert_same(captions, expected)
    assert [one.tokens for one in free] != [one.tokens for one in captions]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_the_n_best_are_the_likeliest_of_all_captions(
    make_decoder: MakeDecoder, penalty: float
) -> None:
    decoder, images = make_decoder(vocabulary_size=7).eval(), features(4)
    search = BeamSearch(max_length=4, beam_size=81, length_penalty=penalty)
    for i, captions in enumerate(search.n_best(decoder, images)):
        ranked = by_likelihood(decoder, images.select(torch.tensor([i])), 4, penalty)
        assert_same(captions[:20], ranked[:20])


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
    by_image = search.n_best(decoder, images)
    assert_same([captions[0] for captions in by_image], search(decoder, images))
    for captions in by_image:
        scores = [one.score for one in captions]
        assert scores == sorted(scores, reverse=True)
        assert len({one.tokens for one in captions}) == len(captions) <= 4
        assert all(one.finished for one in captions) or len(captions) == 1


def test_a_caption_that_can_neither_go_on_nor_end_is_returned_as_it_stands(
    make_decoder: MakeDecoder,
) -> None:
    decoder = make_decoder(vocabulary_size=7).eval()  # of three words
    search = BeamSearch(8, 3, 0.7, min_length=5, block_ngrams=1)
    for caption in search(decoder, features(5)):
        assert sorted(caption.tokens) == [4, 5, 6]
        assert not caption.finished


def diverse(
    decoder: Decoder, image: ImageFeatures, max_length: int, groups: int, strength: float
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
                    reached = total + float(log_probs[0, word])
                    rank = reached - strength * used[word]
                    candidates.append((rank, reached, words, after, word))
            candidates.sort(key=lambda one: -one[0])
            for _, reached, words, _, word in candidates[:2]:
                if word == END_ID:
                    finished.append((reached / (t + 1) ** 0.7, words))
            unfinished = [one for one in candidates if one[4] != END_ID][:2]
            beams[g] = [
                (reached, (*words, word), after, word)
                for _, reached, words, after, word in unfinished
            ]
            used.update(beam[3] for beam in beams[g])
    return sorted(finished, reverse=True)


@pytest.mark.parametrize("strength", [0.0, 0.4, 5.0])
def test_diverse_beams_are_those_of_the_algorithm(
    make_decoder: MakeDecoder, strength: float
) -> None:
    decoder, images = make_decoder("gru").eval(), features(6)
    captions = DiverseBeamSearch(5, 6, 0.7, 3, strength)(decoder, images)
    for i, hypothesis in enumerate(captions):
        with torch.inference_mode():
            expected = diverse(decoder, images.select(torch.tensor([i])), 5, 3, strength)
        assert hypothesis.tokens == expected[0][1]
        assert hypothesis.score == pytest.approx(expected[0][0], abs=1e-5)


@every
def test_diverse_beam_with_one_group_is_beam(
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
    decoder, images = make_decoder(cell, conditioning).eval(), features(7)
    beam = BeamSearch(6, 4, 0.7).n_best(decoder, images)
    diverse_beam = DiverseBeamSearch(6, 4, 0.7, 1, 3.0).n_best(decoder, images)
    for captions, others in zip(diverse_beam, beam, strict=True):
        assert_same(captions, others)


def test_groups_say_different_things(make_decoder: MakeDecoder) -> None:
    decoder, images = make_decoder().eval(), features(6)
    with torch.no_grad():
        decoder.vocabulary_layer.bias[END_ID] = 50.0  # every group ends as soon as it may
    search = DiverseBeamSearch(6, 4, 0.7, 4, 100.0, min_length=3)
    for captions in search.n_best(decoder, images):
        assert [len(one.tokens) for one in captions] == [3] * 4
        for words in zip(*(one.tokens for one in captions), strict=True):
            assert len(set(words)) == 4


@every
@pytest.mark.parametrize("max_length", [3, 12])
def test_a_beam_of_one_is_greedy(
    make_decoder: MakeDecoder, cell: str, conditioning: str, max_length: int
) -> None:
    decoder = make_decoder(cell, conditioning).eval()
    greedy = GreedySearch(max_length)(decoder, features(12))
    beam = BeamSearch(max_length, beam_size=1, length_penalty=0.0)(decoder, features(12))
    assert_same(greedy, beam)


@every
def test_a_caption_does_not_depend_on_its_batch(
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
    decoder = make_decoder(cell, conditioning).eval()
    images = features(9)
    rules = {"min_length": 2, "block_ngrams": 2, "forbidden_endings": ("a", "b")}
    for search in (
        GreedySearch(8),
        BeamSearch(8, beam_size=3, length_penalty=0.7),
        BeamSearch(8, 3, 0.7, **rules, **ENDINGS),
        DiverseBeamSearch(8, 4, 0.7, num_groups=2, diversity_strength=0.5),
    ):
        alone = [search(decoder, images.select(torch.tensor([i])))[0] for i in range(9)]
        assert_same(search(decoder, images), alone)


def test_a_wider_beam_is_never_less_likely_in_sum(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder().eval()
    scores = [
        sum(caption.score for caption in BeamSearch(6, size, 0.0)(decoder, features(16)))
        for size in (1, 3, 49)
    ]
    assert scores[0] <= scores[1] + 1e-4
    assert scores[1] <= scores[2] + 1e-4


@pytest.mark.parametrize("name", names("search"))
def test_a_caption_that_never_ends_is_returned_unfinished(
    make_decoder: MakeDecoder, name: str
) -> None:
    decoder, search = make_decoder().eval(), shipped(name)
    with torch.no_grad():
        decoder.vocabulary_layer.bias[END_ID] = -1e4
    for caption in search(decoder, features(4)):
        assert len(caption.tokens) == search.max_length
        assert not caption.finished


@pytest.mark.parametrize("name", names("search"))
def test_every_search_writes_words_for_every_image(make_decoder: MakeDecoder, name: str) -> None:
    decoder, search = make_decoder().eval(), shipped(name)
    with torch.no_grad():
        decoder.vocabulary_layer.bias[:4] += 5.0  # special words are likely
    captions = search(decoder, features(6))
    assert len(captions) == 6
    for caption in captions:
        assert len(caption.tokens) <= search.max_length
        assert all(word >= 4 for word in caption.tokens)
    assert_same(search(decoder, features(6)), captions)


@pytest.mark.parametrize("name", names("search"))
def test_no_search_gives_more_captions_than_it_says(make_decoder: MakeDecoder, name: str) -> None:
    decoder, search = make_decoder().eval(), shipped(name)
    by_image = search.n_best(decoder, features(6))
    assert_same([captions[0] for captions in by_image], search(decoder, features(6)))
    numbers = [len({caption.tokens for caption in captions}) for captions in by_image]
    assert numbers == [len(captions) for captions in by_image]
    assert max(numbers) <= search.max_captions
    assert (max(numbers) > 1) == (search.max_captions > 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BeamSearch(5, 3, -1.0), "length_penalty must be at least 0, found -1"),
        (
            lambda: BeamSearch(5, 3, 0.7, min_length=6),
            "min_length must be at most max_length=5, found 6",
        ),
        (
            lambda: BeamSearch(5, 3, 0.7, forbidden_endings=("a",)),
            "forbidden_endings needs the vocabulary",
        ),
        (
            lambda: DiverseBeamSearch(5, 4, 0.7, 3, 0.5),
            "num_groups must divide beam_size=4, found 3",
        ),
        (lambda: DiverseBeamSearch(5, 4, 0.7, 2, -0.1), "diversity_strength must be at least 0"),
        (lambda: SampleSearch(5, 0.0, None, 1.0, seed=0), "temperature and top_p must be above 0"),
        (lambda: SampleSearch(5, 1.0, None, 0.0, seed=0), "temperature and top_p must be above 0"),
    ],
)
def test_options_that_would_give_wrong_captions_are_refused(
    build: Callable[[], Search], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@every
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
        assert [caption.tokens for caption in drawn] == [caption.tokens for caption in greedy]
        for one, other in zip(drawn, greedy, strict=True):
            assert one.finished == other.finished or len(one.tokens) == 8


def test_words_are_drawn_by_their_probability(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder(vocabulary_size=8).eval()
    image = features(1)
    drawn = SampleSearch(1, 1.0, None, 1.0, seed=0).draw(decoder, image, 20_000)[0]
    with torch.inference_mode():
        log_probs, _ = decoder.step(torch.tensor([START_ID]), decoder.start(image))
    allowed = [END_ID, *range(4, 8)]
    expected = log_probs[0, allowed].softmax(-1).tolist()
    first = [caption.tokens[0] if caption.tokens else END_ID for caption in drawn]
    for word, share in zip(allowed, expected, strict=True):
        assert first.count(word) / 20_000 == pytest.approx(share, abs=0.015)
    narrow = SampleSearch(1, 1.0, 2, 1.0, seed=0).draw(decoder, image, 500)[0]
    assert len({caption.tokens for caption in narrow}) == 2
    likeliest_two = sorted(zip(expected, allowed, strict=True))[-2:]
    nucleus = SampleSearch(1, 1.0, None, likeliest_two[1][0] + 1e-4, seed=0)
    assert len({caption.tokens for caption in nucleus.draw(decoder, image, 500)[0]}) == 2


def test_what_is_drawn_for_an_image_depends_on_its_name_not_on_its_batch(
    make_decoder: MakeDecoder,
) -> None:
    """Images that look alike, so that only the random numbers tell their captions apart."""
    decoder, image_ids = make_decoder().eval(), [f"{i}.jpg" for i in range(48)]
    images = features(1).select(torch.zeros(48, dtype=torch.long))
    search = SampleSearch(8, 1.0, None, 1.0, seed=0)

    def captions(batch_size: int) -> list[Hypothesis]:
        rows = torch.arange(48).split(batch_size)
        return [
            caption
            for part in rows
            for caption in search(decoder, images.select(part), [image_ids[i] for i in part])
        ]

    together = captions(48)
    assert_same(captions(8), together)
    assert len({caption.tokens for caption in together}) > 24
    assert_same(search(decoder, images.select(torch.tensor([0])), ["7.jpg"]), [together[7]])
    other = SampleSearch(8, 1.0, None, 1.0, seed=1)(decoder, images, image_ids)
    assert [caption.tokens for caption in other] != [caption.tokens for caption in together]
    drawn = search.draw(decoder, images, 3, image_ids)
    assert len({caption.tokens for of_image in drawn for caption in of_image}) > 48


@every
def test_the_likelihood_of_a_caption_is_that_of_its_search(
    make_decoder: MakeDecoder, cell: str, conditioning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "_MOST_TOKENS", 60)  # one caption of each image at a time
    decoder = make_decoder(cell, conditioning).eval()
    images = features(6)
    captions = BeamSearch(8, beam_size=3, length_penalty=0.7)(decoder, images)
    tokens = torch.zeros(6, 2, 10, dtype=torch.int64)  # the second caption is all padding
    for i, hypothesis in enumerate(captions):
        written = [START_ID, *hypothesis.tokens, *([END_ID] if hypothesis.finished else [])]
        tokens[i, 0, : len(written)] = torch.tensor(written)
    log_probs, counts = caption_log_probabilities(decoder, images, tokens)
    for i, hypothesis in enumerate(captions):
        assert float(log_probs[i, 0]) == pytest.approx(hypothesis.log_probability, abs=1e-4)
        assert int(counts[i, 0]) == len(hypothesis.tokens) + hypothesis.finished
    assert log_probs[:, 1].tolist() == [0.0] * 6
    assert counts[:, 1].tolist() == [0] * 6


@pytest.mark.parametrize("conditioning", ["attention", "dot_attention"])
def test_attention_maps_are_the_weights_of_each_step(
    make_decoder: MakeDecoder, conditioning: str
) -> None:
    decoder = make_decoder("lstm", conditioning).eval()
    images = features(6)
    captions = GreedySearch(6)(decoder, images)
    maps = attention_maps(decoder, images, captions)
    for i, (caption, weights) in enumerate(zip(captions, maps, strict=True)):
        assert weights.shape == (len(caption.tokens) + caption.finished, 6)
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
        state = decoder.start(images.select(torch.tensor([i])))
        for word, row in zip((START_ID, *caption.tokens), weights, strict=False):
            hidden = state.memory[0][-1].unsqueeze(0)
            _, expected = decoder.conditioning.attend(hidden, state.image)
            torch.testing.assert_close(row, expected[0, 0])
            _, state = decoder.step(torch.tensor([word]), state)


@pytest.mark.parametrize("num_images", [1, 3])
def test_captions_without_a_token_have_empty_attention_maps(
    make_decoder: MakeDecoder, num_images: int
) -> None:
    empty = [Hypothesis((), 0.0, 0.0, finished=False)] * num_images
    maps = attention_maps(make_decoder().eval(), features(num_images), empty)
    assert [weights.shape for weights in maps] == [(0, 6)] * num_images
    blind = word_predictions(make_decoder(conditioning="merge").eval(), features(1), empty[:1])
    assert blind[0].attention is None
    assert len(blind[0].log_probabilities) == 0


def test_a_decoder_that_does_not_attend_has_no_attention_maps(make_decoder: MakeDecoder) -> None:
    decoder, images = make_decoder(conditioning="merge").eval(), features(2)
    with pytest.raises(ValueError, match="does not attend to positions"):
        attention_maps(decoder, images, GreedySearch(4)(decoder, images))


def test_an_ensemble_of_one_is_its_decoder(make_decoder: MakeDecoder) -> None:
    decoder, images = make_decoder().eval(), features(6)
    search = BeamSearch(6, 3, 0.7)
    ensemble = EnsembleDecoder([decoder])
    assert (ensemble.needs_grid, ensemble.attends) == (True, False)
    assert_same(search(ensemble, EnsembleFeatures.of([images])), search(decoder, images))


def test_an_ensemble_knows_the_likelihood_of_its_captions(make_decoder: MakeDecoder) -> None:
    members = [make_decoder("lstm"), make_decoder("gru", "pre_inject", seed=1)]
    ensemble = EnsembleDecoder(members).eval()
    images = EnsembleFeatures.of([features(6), features(6, seed=9)])
    captions = GreedySearch(6)(ensemble, images)
    tokens = caption_tokens([[caption] for caption in captions], "cpu")
    log_probs, _ = caption_log_probabilities(ensemble, images, tokens)
    expected = torch.tensor([caption.log_probability for caption in captions])
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
        for decoder, images in ((first, ours), (second, theirs)):
            begun, own = decoder.step(torch.full((3,), START_ID), decoder.start(images))
            expected.append(
                (begun, decoder.step(torch.tensor([4, 5]), decoder.select(own, rows, rows))[0])
            )
    for ensembled, (one, other) in zip(
        (log_probs, after), zip(*expected, strict=True), strict=True
    ):
        torch.testing.assert_close(ensembled.exp(), (one.exp() + other.exp()) / 2)
