"""What several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers import read_corpus
from captionlab.corpora.shapes import generate_shapes
from tests.support import decoders

torch.set_num_threads(1)


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
def make_decoder() -> decoders.MakeDecoder:
    """Makes a small decoder."""
    return decoders.make_decoder
