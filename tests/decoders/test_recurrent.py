"""What is particular to a recurrent decoder."""

from __future__ import annotations

import torch

from captionlab.types import END_ID, START_ID
from tests.support.decoders import MakeDecoder, features

TOKENS = torch.tensor([[[START_ID, 5, 6, END_ID]], [[START_ID, 7, 8, END_ID]]])


def test_dropout_before_the_vocabulary_layer_may_be_another(make_decoder: MakeDecoder) -> None:
    def repeats(**dropouts: float) -> bool:
        decoder = make_decoder("lstm", "init_inject", **dropouts)
        return torch.allclose(*(decoder(features(2), TOKENS).logits for _ in range(2)))

    assert repeats(dropout=0.0)
    assert not repeats(dropout=0.0, output_dropout=0.5)
    assert not repeats(dropout=0.5, output_dropout=0.0)
    decoder = make_decoder("lstm", "init_inject", dropout=0.5, output_dropout=0.0)
    assert (decoder.dropout.p, decoder.output_dropout.p) == (0.5, 0.0)
    assert make_decoder("lstm", "init_inject", dropout=0.4).output_dropout.p == 0.4
