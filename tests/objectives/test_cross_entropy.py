"""Maximum likelihood, and the penalty on uneven attention."""

from __future__ import annotations

import math

import pytest
import torch

from captionlab.objectives import CrossEntropy
from captionlab.types import PAD_ID, CaptionBatch
from tests.support.decoders import MakeDecoder, captions, features


def test_label_smoothing_gives_its_share_to_all_words_alike(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder().eval()
    batch = CaptionBatch(("x", "y", "z"), features(3), captions(3, 2))
    logits, targets, *_ = decoder(batch.features, batch.tokens)
    log_probs = logits.log_softmax(-1)
    true = log_probs.gather(1, targets.unsqueeze(-1)).mean()
    loss, _ = CrossEntropy(0.1)(decoder, batch, 0.0)
    torch.testing.assert_close(loss, -(0.9 * true + 0.1 * log_probs.mean()))


@pytest.mark.parametrize("conditioning", ["attention", "dot_attention"])
def test_the_doubly_stochastic_penalty_is_that_of_the_paper(
    make_decoder: MakeDecoder, conditioning: str
) -> None:
    decoder = make_decoder(conditioning=conditioning).train()
    images, tokens = features(3), captions(3, 2)  # the last caption is missing
    batch = CaptionBatch(("x", "y", "z"), images, tokens)
    plain, _ = CrossEntropy(0.0)(decoder, batch, 0.0)
    loss, extra = CrossEntropy(0.0, doubly_stochastic=2.0)(decoder, batch, 0.0)

    penalties = []
    image = decoder.conditioning.prepare(images)
    for i in range(3):
        own = image.select(torch.tensor([i]))
        for caption in tokens[i]:
            words = caption[caption != PAD_ID][:-1]
            if not len(words):
                continue
            state = decoder.first_state(own)
            sums = torch.zeros(6)
            for word in words:
                gates = decoder.recurrent.project(decoder.embed(word.view(1, 1)))
                state = tuple(part.unflatten(1, (1, 1)) for part in state)
                state, weights = decoder.advance(gates, own, state)
                sums = sums + weights[0, 0]
            penalties += [(1 - sums).square().mean()]
    expected = torch.stack(penalties).mean()
    assert len(penalties) == 5
    torch.testing.assert_close(loss - plain, 2 * expected)
    assert math.isclose(extra["unevenness"], expected.item(), rel_tol=1e-5)
    loss.backward()
    assert decoder.conditioning.key.weight.grad.abs().sum() > 0


def test_the_penalty_is_refused_without_attention(make_decoder: MakeDecoder) -> None:
    batch = CaptionBatch(("x", "y"), features(2), captions(2, 2))
    with pytest.raises(ValueError, match="needs a decoder that attends"):
        CrossEntropy(0.0, doubly_stochastic=1.0)(make_decoder(conditioning="merge"), batch, 0.0)
