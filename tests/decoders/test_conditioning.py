"""What conditionings do to the image's vectors."""

from __future__ import annotations

import pytest
import torch

from captionlab.decoders import PreInjectConditioning
from captionlab.decoders.cells import StateShape
from captionlab.types import END_ID, PAD_ID, START_ID, ImageFeatures
from tests.support.decoders import FEATURES, MakeDecoder, features

E, H, G, C = 6, 8, 5, 7  # sizes of `make_decoder`
TOKENS = torch.tensor([[[START_ID, 5, 6, END_ID, PAD_ID]], [[START_ID, 7, END_ID, PAD_ID, PAD_ID]]])


@pytest.mark.parametrize("conditioning", ["pre_inject", "merge", "attention"])
def test_a_batch_of_one_image_is_standardised_as_in_evaluation(
    make_decoder: MakeDecoder, conditioning: str
) -> None:
    decoder = make_decoder("lstm", conditioning)
    few = TOKENS[:1, :, :2]  # one image's vector has no variance; its map has
    images = ImageFeatures(features(1).grid, features(1).pooled + 3)
    with torch.no_grad():
        decoder(ImageFeatures(features(4).grid + 1, features(4).pooled + 2), TOKENS[[0, 1, 0, 1]])
        trained = decoder(images, few).logits
        evaluated = decoder.eval()(images, few).logits
    assert torch.allclose(trained, evaluated) == (conditioning != "attention")


def test_a_learned_batch_norm_may_follow_the_first_word_that_is_the_image() -> None:
    shape = StateShape.of("lstm", 1, H)
    part = PreInjectConditioning(FEATURES, E, shape, dropout=0.0, batch_norm_momentum=0.01)
    assert sum(p.numel() for p in part.parameters()) == (G + 1) * E + 2 * E
    image = part.prepare(ImageFeatures(torch.empty(9, 0, C), 5 + 3 * torch.randn(9, G))).vector
    torch.testing.assert_close(image.mean(0), torch.zeros(E), atol=1e-5, rtol=0)
    torch.testing.assert_close(image.std(0, unbiased=False), torch.ones(E), atol=1e-3, rtol=0)
    norm = part.project[-1].norm
    assert float(norm.running_var.mean()) == pytest.approx(0.99, abs=0.05)  # 0.01 of this batch's
    alone = part.prepare(ImageFeatures(torch.empty(1, 0, C), torch.randn(1, G)))
    assert alone.vector.shape == (1, E)
