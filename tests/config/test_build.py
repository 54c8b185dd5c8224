"""What a configuration builds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from captionlab.captioner.parts import build_decoder
from captionlab.text import Vocabulary
from captionlab.types import FeatureShape, ImageFeatures
from tests.support.configs import OPTIONS, checked

WORDS = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "cat", "dog", "a", "on", "red"])
SHAPE = FeatureShape((2, 2), grid_dim=12, pooled_dim=10)
PAIRS = [
    (option, f"conditioning={'built_in' if option == 'decoder=transformer' else 'merge'}")
    for option in OPTIONS
    if option.startswith("decoder=")
] + [
    ("decoder=stacked_lstm", option)
    for option in OPTIONS
    if option.startswith("conditioning=") and option != "conditioning=built_in"
]


@pytest.mark.parametrize(("decoder", "conditioning"), PAIRS)
def test_every_decoder_and_conditioning_is_built(decoder: str, conditioning: str) -> None:
    config = checked(decoder, conditioning, "decoder.hidden_dim=16")
    built, again = (build_decoder(config, SHAPE, WORDS) for _ in range(2))
    images = ImageFeatures(torch.randn(2, 4, 12), torch.randn(2, 10))
    logits, *_ = built.eval()(images, torch.tensor([[[1, 5, 2]], [[1, 6, 2]]]))
    assert logits.shape == (4, len(WORDS))
    for one, other in zip(built.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("decoder", ["lstm", "transformer"])
def test_known_words_get_the_vectors_of_the_file(
    decoder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 2 3\nelsewhere 4 5 6\n")
    options = (f"decoder={decoder}", "decoder.embedding_dim=3")
    plain = build_decoder(checked(*options), SHAPE, WORDS)
    with caplog.at_level(logging.INFO):
        built = build_decoder(checked(*options, f"decoder.word_vectors={path}"), SHAPE, WORDS)
    before, after = (d.get_submodule("embedding").weight for d in (plain, built))
    assert after[5].tolist() == [1.0, 2.0, 3.0]
    others = [i for i in range(len(WORDS)) if i != 5]
    assert torch.equal(after[others], before[others])
    assert "has 1 of 9 words" in caplog.text
