"""What several tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from captionlab.data.corpus import CaptionCorpus
from captionlab.data.readers import read_corpus
from captionlab.data.shapes import generate_shapes
from captionlab.decoders import (
    AttentionConditioning,
    Conditioning,
    PreInjectConditioning,
    RecurrentDecoder,
)
from captionlab.decoders.cells import StateShape
from captionlab.types import FeatureShape, ImageFeatures

torch.set_num_threads(1)

MakeDecoder = Callable[..., RecurrentDecoder]
FEATURES = FeatureShape((2, 3), grid_dim=7, pooled_dim=5)


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small embedded data set."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    generate_shapes(root, 24, 8, 8, 32, seed=0)
    return root


@pytest.fixture(scope="session")
def shapes(shapes_root: Path) -> CaptionCorpus:
    return read_corpus(shapes_root, "flickr8k")


@pytest.fixture
def make_decoder() -> MakeDecoder:
    """Makes a small decoder over features of `FEATURES`."""

    def make(
        cell: str = "lstm",
        conditioning: str = "attention",
        num_layers: int = 1,
        vocabulary_size: int = 11,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> RecurrentDecoder:
        torch.manual_seed(seed)
        state_shape = StateShape.of(cell, num_layers, 8)
        part: Conditioning
        if conditioning == "attention":
            part = AttentionConditioning(FEATURES, 6, state_shape, 4, 3, dropout)
        else:
            part = PreInjectConditioning(FEATURES, 6, state_shape)
        decoder = RecurrentDecoder(cell, 6, 8, num_layers, dropout, part, vocabulary_size)
        with torch.no_grad():  # larger than a fresh network's, so that captions differ
            for parameter in decoder.parameters():
                parameter.mul_(2.5)
        return decoder

    return make


def features(num_images: int, seed: int = 1) -> ImageFeatures:
    """Random features of `FEATURES`."""
    generator = torch.Generator().manual_seed(seed)
    return ImageFeatures(
        torch.randn(num_images, 6, 7, generator=generator),
        torch.randn(num_images, 5, generator=generator),
    )
