"""Which images a trained model is evaluated on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from captionlab.captioner.load import load_run
from captionlab.corpora import read_corpus
from captionlab.evaluation.models import _other_corpus, _write, captions_of_run
from captionlab.evaluation.request import Request
from tests.support.fakes import photo
from tests.support.runs import Place


def test_a_model_is_tested_on_no_image_that_it_was_trained_on(tmp_path: Path) -> None:
    run = load_run(Place(tmp_path).run("run"))
    root = tmp_path / "own"
    root.mkdir()
    for i in range(60):
        (root / f"{i}.jpg").write_bytes(photo(i))
    rows = "".join(f"{i}.jpg,a red dog number {i}\n" for i in range(60))
    (root / "captions.csv").write_text(f"image,caption\n{rows}")
    own = read_corpus(root, split_seed=5)
    assert own.fingerprint != read_corpus(root).fingerprint
    config = {**run.config, "data": {**run.config["data"], "split_seed": 5}}
    moved = _other_corpus(replace(run, config=config), Request(data=root))
    assert moved.fingerprint == own.fingerprint
    asked = _other_corpus(replace(run, config=config), Request(data=root, split_seed=0))
    assert asked.fingerprint == read_corpus(root).fingerprint


def test_a_model_whose_data_has_changed_says_so(tmp_path: Path) -> None:
    run = load_run(Place(tmp_path).run("run"))
    assert not _write(run, Request()).warnings
    (warning,) = _write(replace(run, corpus_fingerprint="another"), Request()).warnings
    assert "may have been trained on some of these images" in warning


def test_a_finished_run_whose_data_has_changed_says_so(tmp_path: Path) -> None:
    folder = Place(tmp_path).run("run")
    run = load_run(folder)
    lines = [{"image_id": image, "caption": "a dog"} for image in run.corpus.references("test")]
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "config.yaml").write_text(json.dumps(run.config))
    (folder / "manifest.json").write_text(json.dumps({"corpus": run.corpus_fingerprint}))
    assert not captions_of_run(folder, Request()).warnings
    (folder / "manifest.json").write_text(json.dumps({"corpus": "another"}))
    (warning,) = captions_of_run(folder, Request()).warnings
    assert "have changed since the model was trained" in warning
