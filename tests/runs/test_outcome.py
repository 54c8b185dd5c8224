"""What loggers get of a finished run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captionlab.captioner.captioner import Captioner
from captionlab.corpora import CaptionCorpus
from captionlab.evaluation.result import Prediction
from captionlab.features.source import StoredFeatures
from captionlab.runs.outcome import _photos
from captionlab.training.loggers import LoggedPhoto
from tests.support.runs import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


def photos(captioner: Captioner, corpus: CaptionCorpus) -> list[LoggedPhoto]:
    predictions = [
        Prediction(image.image_id, "a red circle", {"cider_d": 0.5}, {})
        for image in corpus.splits["test"][:2]
    ]
    return list(_photos(captioner, corpus, predictions, "cider_d"))


def test_photos_come_with_attention_and_lost_ones_are_left_out(place: Place) -> None:
    corpus, captioner = place.data.corpus, place.captioner("own")
    assert [photo.attention is not None for photo in photos(captioner, corpus)] == [True] * 2
    lost, *others = corpus.splits["test"]
    test = (replace(lost, path=Path("/nowhere.png")), *others)
    shown = photos(captioner, replace(corpus, splits={**corpus.splits, "test": test}))
    assert [photo.image_id for photo in shown] == [others[0].image_id]


def test_features_of_others_have_no_attention_to_show(place: Place) -> None:
    assert isinstance(place.data.source, StoredFeatures)
    corpus = place.data.corpus
    ids = [image.image_id for image in corpus.images]
    path = place.folder / "regions.npz"
    grid = place.data.source.open(corpus).read(ids).grid.numpy()
    np.savez(path, grid=grid, ids=np.array(ids))
    shown = photos(place.captioner("given", f"data.features={path}"), corpus)
    assert [photo.attention for photo in shown] == [None, None]
