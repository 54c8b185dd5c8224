"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers import read_corpus
from captionlab.corpora.shapes import generate_shapes
from captionlab.metrics import registry
from captionlab.metrics.protocol import Metric, MetricScores, Score, TokenizedCaptions
from tests.support import decoders

torch.set_num_threads(1)
# Of whoever runs the tests, and of the cluster's job that does.
for name in list(os.environ):
    if name.startswith("SLURM_") or name.lower().endswith("_proxy"):
        del os.environ[name]
for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)
os.environ["WANDB_MODE"] = "offline"


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


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> type[Metric]:
    """A metric of one's own: the number of words, on a scale of its own, the fewer the better."""
    registry.metrics()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @registry.register
    class Words(Metric):
        name = "words"
        scores = (Score("words", "Words", scale=1.0, higher_is_better=False),)

        def score(self, captions: TokenizedCaptions) -> MetricScores:
            values = [float(len(text.split())) for text in captions.texts]
            return MetricScores.mean_of(self.name, values)

    return Words
