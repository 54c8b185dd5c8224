"""What is particular to a recurrent decoder."""

from __future__ import annotations

import pytest
import torch

from captionlab.types import END_ID, START_ID
from tests.support.decoders import MakeDecoder, features

TOKENS = torch.tensor([[[START_ID, 5, 6, END_ID]], [[START_ID, 7, 8, END_ID]]])


@pytest.mark.parametrize("dropout", ["dropout", "output_dropout"])
@pytest.mark.parametrize("forward", ["forward", "forward_plain"])
@pytest.mark.parametrize(
    ("decoder", "conditioning"), [("lstm", "init_inject"), ("gru", "attention")]
)
def test_words_and_output_are_each_dropped(
    make_decoder: MakeDecoder, decoder: str, conditioning: str, forward: str, dropout: str
) -> None:
    model = make_decoder(decoder, conditioning)

    def repeats() -> bool:
        passes = (getattr(model, forward)(features(2), TOKENS) for _ in range(2))
        return torch.allclose(*(predictions.logits for predictions in passes))

    assert repeats()
    getattr(model, dropout).p = 0.5
    assert not repeats()


def test_dropout_before_the_vocabulary_layer_may_be_another(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder("lstm", "init_inject", dropout=0.5, output_dropout=0.0)
    assert (decoder.dropout.p, decoder.output_dropout.p) == (0.5, 0.0)
    assert make_decoder("lstm", "init_inject", dropout=0.4).output_dropout.p == 0.4
