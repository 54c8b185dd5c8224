"""What is particular to a recurrent decoder."""

from __future__ import annotations

import pytest
import torch

from captionlab.decoders import recurrent
from captionlab.types import END_ID, START_ID
from tests.conftest import MakeDecoder, features
from tests.contract.test_decoders import captions

TOKENS = torch.tensor([[[START_ID, 5, 6, END_ID]], [[START_ID, 7, 8, END_ID]]])


def test_dropout_before_the_words_is_told_apart(make_decoder: MakeDecoder) -> None:
    def repeats(**dropouts: float) -> bool:
        decoder = make_decoder("lstm", "init_inject", **dropouts)
        return torch.equal(*(decoder(features(2), TOKENS).logits for _ in range(2)))

    assert repeats(dropout=0.0)
    assert not repeats(dropout=0.0, output_dropout=0.5)
    assert not repeats(dropout=0.5, output_dropout=0.0)
    decoder = make_decoder("lstm", "init_inject", dropout=0.5, output_dropout=0.0)
    assert (decoder.dropout.p, decoder.output_dropout.p) == (0.5, 0.0)
    assert make_decoder("lstm", "init_inject", dropout=0.4).output_dropout.p == 0.4


@pytest.mark.parametrize("conditioning", ["init_inject", "pre_inject", "merge_add"])
def test_short_captions_apart_are_what_they_are_among_long_ones(
    make_decoder: MakeDecoder, conditioning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = make_decoder("lstm", conditioning).eval()
    images, tokens = features(4), captions(4, 3)  # one of them is all padding
    together = decoder(images, tokens)
    monkeypatch.setattr(recurrent, "_FEWEST_ROWS", 3)
    apart = decoder(images, tokens)
    torch.testing.assert_close(apart.logits, together.logits)
    assert torch.equal(apart.targets, together.targets)
