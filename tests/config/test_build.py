"""What a configuration builds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from captionlab.config import build
from captionlab.text import Vocabulary
from captionlab.types import FeatureShape, ImageFeatures
from tests.config.test_configs import OPTIONS, composed

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
    config = composed(decoder, conditioning, "decoder.hidden_dim=16")
    built = build.build_decoder(config, SHAPE, vocabulary_size=9)
    again = build.build_decoder(config, SHAPE, vocabulary_size=9)
    images = ImageFeatures(torch.randn(2, 4, 12), torch.randn(2, 10))
    logits, *_ = built.eval()(images, torch.tensor([[[1, 5, 2]], [[1, 6, 2]]]))
    assert logits.shape == (4, 9)
    for one, other in zip(built.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("decoder", ["lstm", "transformer"])
def test_known_words_get_the_vectors_of_the_file(
    decoder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 2 3\nelsewhere 4 5 6\n")
    vocabulary = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "cat", "dog"])
    config = composed(f"decoder={decoder}", "decoder.embedding_dim=3")
    built = build.build_decoder(config, SHAPE, len(vocabulary))
    before = built.get_submodule("embedding").weight.clone()
    with caplog.at_level(logging.INFO):
        build._load_word_vectors(built, path, vocabulary)
    after = built.get_submodule("embedding").weight
    assert after[5].tolist() == [1.0, 2.0, 3.0]
    assert torch.equal(after[:5], before[:5])
    assert "has 1 of 6 words" in caplog.text
