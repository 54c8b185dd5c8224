"""What several tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers import read_corpus
from captionlab.corpora.shapes import generate_shapes
from captionlab.decoders import (
    AttentionConditioning,
    Conditioning,
    Decoder,
    DotAttentionConditioning,
    InitInjectConditioning,
    MergeConditioning,
    ParInjectConditioning,
    PreInjectConditioning,
    RecurrentDecoder,
    TransformerDecoder,
)
from captionlab.decoders.cells import StateShape
from captionlab.types import FeatureShape, ImageFeatures

torch.set_num_threads(1)

MakeDecoder = Callable[..., Any]  # any decoder; tests reach into its layers
FEATURES = FeatureShape((2, 3), grid_dim=7, pooled_dim=5)
# Every way the image enters, with its options; `transformer` names no cell.
CONDITIONINGS: dict[str, tuple[type[Conditioning], dict[str, Any]]] = {
    "attention": (AttentionConditioning, {"feature_dim": 4, "attention_dim": 3}),
    "dot_attention": (
        DotAttentionConditioning,
        {"feature_dim": 4, "attention_dim": 6, "num_heads": 2},
    ),
    "init_inject": (InitInjectConditioning, {}),
    "pre_inject": (PreInjectConditioning, {}),
    "par_inject": (ParInjectConditioning, {"image_dim": 3, "first_only": False}),
    "par_inject_first": (ParInjectConditioning, {"image_dim": 3, "first_only": True}),
    "merge_add": (MergeConditioning, {"combine": "add", "dense": True}),
    "merge_concatenate": (MergeConditioning, {"combine": "concatenate", "dense": False}),
}
CELLS = ("lstm", "gru", "rnn")


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
        **options: Any,
    ) -> Decoder:
        torch.manual_seed(seed)
        decoder: Decoder
        if cell.startswith("transformer"):
            decoder = TransformerDecoder(
                FEATURES,
                embedding_dim=6,
                hidden_dim=8,
                num_layers=num_layers,
                num_heads=2,
                feedforward_ratio=2,
                dropout=dropout,
                positions="learned" if cell == "transformer_learned" else "sinusoidal",
                num_positions=8,
                vocabulary_size=vocabulary_size,
                **options,
            )
        else:
            state_shape = StateShape.of(cell, num_layers, 8)
            kind, sizes = CONDITIONINGS[conditioning]
            part = kind(FEATURES, 6, state_shape, **sizes, dropout=dropout)
            decoder = RecurrentDecoder(
                cell, 6, 8, num_layers, dropout, part, vocabulary_size, **options
            )
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
