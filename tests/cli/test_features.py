"""`captionlab features`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captionlab.cli import main
from captionlab.corpora.corpus import CaptionCorpus
from captionlab.locks import OwnedLock
from tests.features.test_store import MeanColour, build


def test_features_are_listed_verified_and_removed(
    tmp_path: Path, shapes: CaptionCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["--cache-dir", str(tmp_path)]
    assert main(["features", "list", *cache]) == 0
    assert "no stored features" in capsys.readouterr().out
    store = build(tmp_path / "features", shapes, MeanColour())
    name = store.folder.name
    assert main(["features", "list", *cache]) == 0
    output = capsys.readouterr().out
    assert name in output
    assert "mean/1" in output
    assert "complete" in output

    assert main(["features", "verify", *cache]) == 0
    assert capsys.readouterr().out == f"{name}: whole\n"
    np.load(store.folder / "pooled.npy", mmap_mode="r+")[17] += 1
    assert main(["features", "verify", *cache]) == 1
    assert f"{name}: pooled.npy is damaged (images 0 to 39" in capsys.readouterr().out

    with OwnedLock(tmp_path / "features" / f".{name}.owner").hold():
        assert main(["features", "remove", name, *cache]) == 1
    assert "being encoded by another process" in capsys.readouterr().err
    assert main(["features", "remove", name, *cache]) == 0
    assert main(["features", "remove", name, *cache]) == 1
    assert "there are: none" in capsys.readouterr().err


def test_a_folder_without_features_is_an_error_to_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["features", "verify", "--cache-dir", str(tmp_path / "nowhere")]) == 1
    assert "no stored features in" in capsys.readouterr().err
