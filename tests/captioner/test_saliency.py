"""Which parts of a photo words depend on, for models without attention too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captionlab
from captionlab.captioner.saliency import Method
from captionlab.types import ImageFeatures
from tests.captioner.test_captioner import place
from tests.support.runs import Place

__all__ = ["place"]  # a fixture


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
@pytest.mark.parametrize("options", ["conditioning=merge", "conditioning=attention"])
def test_every_word_has_a_map(place: Place, method: Method, options: str) -> None:
    model = captionlab.load(place.run(f"{method}-{options}", options))
    photos = [image.path for image in place.data.corpus.splits["test"]][:2]
    plain = model(photos)
    for caption, expected in zip(model(photos, explain=method), plain, strict=True):
        assert caption.text == expected.text
        assert caption.pixels is not None
        for word in caption.words:
            assert word.attention is None
            assert word.saliency is not None
            assert word.saliency.shape == (8, 8)
            assert np.isfinite(word.saliency).all()
            if method == "gradients":
                assert word.saliency.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_what_the_model_does_not_see_does_not_matter(
    place: Place, tmp_path: Path, method: Method
) -> None:
    """An encoder that looks at one cell alone has all of the map there."""
    model = captionlab.load(place.run(f"blinkered-{method}", "conditioning=merge"))
    source = model._source
    shape = source.feature_shape

    class Blinkered:
        preprocessing = source.preprocessing
        feature_shape = shape

        def __call__(self, images: torch.Tensor) -> ImageFeatures:
            corner = images[:, :, 48:56, 48:56].mean((1, 2, 3))  # cell (6, 6) of 8x8
            weights = torch.linspace(-1, 1, shape.pooled_dim)
            grid = torch.zeros(len(images), shape.num_positions, shape.grid_dim)
            return ImageFeatures(grid, 5 * corner.unsqueeze(1) * weights)

    source.encoder = source._loaded = Blinkered()  # type: ignore[assignment,attr-defined]
    photo = np.full((64, 64, 3), 250, np.uint8)
    maps = [word.saliency for word in model(Image.fromarray(photo), explain=method).words]
    strengths = [np.abs(saliency) for saliency in maps if saliency is not None]
    assert len(strengths) == len(maps)
    assert max(strength.max() for strength in strengths) > 1e-4
    for strength in strengths:
        if strength.max() > 1e-4:
            assert np.unravel_index(strength.argmax(), (8, 8)) == (6, 6)
        assert strength[:5, :5].max() < 1e-6
