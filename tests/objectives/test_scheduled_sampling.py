"""Words that the model reads of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captionlab.objectives import CrossEntropy, ScheduledSampling, scheduled_sampling
from captionlab.types import END_ID, START_ID, CaptionBatch
from tests.support.decoders import MakeDecoder, captions, features


def batch(num_captions: int = 2) -> CaptionBatch:
    return CaptionBatch(("a", "b", "c"), features(3), captions(3, num_captions))


@pytest.mark.parametrize("conditioning", ["attention", "pre_inject"])
def test_true_words_alone_are_cross_entropy(make_decoder: MakeDecoder, conditioning: str) -> None:
    decoder = make_decoder("lstm", conditioning)
    expected, _ = CrossEntropy(0.0)(decoder, batch(), 0.5)
    (gradient,) = torch.autograd.grad(expected, [decoder.vocabulary_layer.weight])
    exact, extra = ScheduledSampling("linear", 1.0, 1.0)(decoder, batch(), 0.5)
    torch.testing.assert_close(exact, expected)
    assert extra == {"true_words": 1.0}
    stepped, _ = ScheduledSampling("linear", 1 - 1e-9, 1 - 1e-9)(decoder, batch(), 0.5)
    torch.testing.assert_close(stepped, expected, atol=1e-5, rtol=1e-5)
    stepped_gradient = torch.autograd.grad(stepped, [decoder.vocabulary_layer.weight])[0]
    torch.testing.assert_close(stepped_gradient, gradient, atol=1e-5, rtol=1e-4)


def test_without_true_words_the_model_runs_free(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder().eval()
    with torch.no_grad():
        decoder.vocabulary_layer.weight *= 1e4  # whatever is drawn is the likeliest
    tokens = captions(3, 1)
    loss, _ = ScheduledSampling("linear", 0.0, 0.0)(decoder, batch(1), 0.0)
    total, count = 0.0, 0
    for i in range(3):
        state = decoder.start(features(3).select(torch.tensor([i])))
        token = tokens[i, 0, :1]
        for target in tokens[i, 0, 1:]:
            if target == 0:
                break
            log_probs, state = decoder.step(token, state)
            total -= float(log_probs[0, target].detach())
            count += 1
            token = 4 + log_probs[:, 4:].argmax(-1)
            if target == END_ID:
                break
    assert float(loss.detach()) == pytest.approx(total / count, rel=1e-5)


def test_each_caption_reads_its_share_of_true_words(
    make_decoder: MakeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    decoder = make_decoder().eval()
    tokens = torch.full((3, 200, 22), 5)
    tokens[..., 0], tokens[..., -1] = START_ID, END_ID
    read: list[Tensor] = []
    step = decoder.step
    monkeypatch.setattr(decoder, "step", lambda *given: (read.append(given[0]), step(*given))[1])

    def draw(weights: Tensor) -> Tensor:
        assert bool((weights[:, :4] == 0).all()), "no special word is read, nor the end"
        return torch.full((len(weights),), 6)

    monkeypatch.setattr(scheduled_sampling, "draw_words", draw)
    batch = CaptionBatch(("a", "b", "c"), features(3), tokens)
    ScheduledSampling("linear", 0.5, 0.5)(decoder, batch, 0.0)
    shares = [float((words == 5).float().mean()) for words in read[1:]]
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.02)
    assert all(0.4 < share < 0.6 for share in shares), "each caption by itself"


@pytest.mark.parametrize("decay", ["linear", "exponential", "inverse_sigmoid"])
def test_the_share_falls_from_first_to_last(decay: str) -> None:
    objective = ScheduledSampling(decay, 1.0, 0.25)  # type: ignore[arg-type]
    shares = [objective.share(i / 100) for i in range(101)]
    assert shares[0] == pytest.approx(1.0)
    assert shares[-1] == pytest.approx(0.25)
    assert shares == sorted(shares, reverse=True)
    middle = {"linear": 0.625, "exponential": 0.5, "inverse_sigmoid": 0.625}
    assert shares[50] == pytest.approx(middle[decay])
    early = {"linear": 0.925, "exponential": 0.25**0.1, "inverse_sigmoid": 0.996}
    assert shares[10] == pytest.approx(early[decay], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linear", 0.5, 0.7), "last_share must be at most first_share=0.5, found 0.7"),
        (("exponential", 1.0, 0.0), "last_share must be above 0 where the decay is exponential"),
    ],
)
def test_shares_that_cannot_be_are_refused(
    arguments: tuple[str, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduledSampling(*arguments)  # type: ignore[arg-type]
