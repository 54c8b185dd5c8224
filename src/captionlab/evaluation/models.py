"""What trained models write for an evaluation, and how likely they find the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from captionlab.captioner.load import TrainedRun, checkpoint_of, load_ensemble, load_run
from captionlab.captioner.parts import build_dataset, build_tokenizer
from captionlab.corpora import CaptionCorpus, read_corpus
from captionlab.evaluation.captions_file import read_results
from captionlab.evaluation.likelihood import perplexity, retrieval, sample
from captionlab.evaluation.request import Request, WrittenCaptions
from captionlab.run_files import RunFiles


def captions_of_run(folder: Path, request: Request) -> WrittenCaptions:
    """A run's test captions from its folder; any others are written by its model.

    Raises:
        CaptionLabError: if the run is not finished, or does not fit the data or the options.
    """
    checkpoint, files = checkpoint_of(folder), RunFiles(folder)
    needs_model = request.num_samples or request.pool_size or request.overrides
    if request.split != "test" or request.data is not None or needs_model:
        return captions_of_checkpoint(checkpoint, request)
    files.check_unchanged()
    config = yaml.safe_load(files.config_path.read_text(encoding="utf-8"))
    dataset = build_dataset(config)
    corpus = dataset.read()
    captions = read_results(files.predictions_path, list(corpus.references("test")))
    tokenizer = build_tokenizer(config)
    warnings = _data_warnings(config, corpus, files.manifest.get("corpus", corpus.fingerprint))
    return WrittenCaptions(corpus, captions, dataset.truth, tokenizer=tokenizer, warnings=warnings)


def captions_of_checkpoint(checkpoint: Path, request: Request) -> WrittenCaptions:
    """Captions that the model in a checkpoint writes.

    Raises:
        CaptionLabError: if it is no checkpoint, or does not fit the data or the options.
    """
    return _write(load_run(checkpoint, request.overrides), request)


def captions_of_ensemble(folders: Sequence[Path], request: Request) -> WrittenCaptions:
    """Captions that finished runs write together.

    Raises:
        CaptionLabError: if a folder is no finished run, or the runs differ in data or vocabulary.
    """
    return _write(load_ensemble(folders, request.overrides), request)


def _write(run: TrainedRun, request: Request) -> WrittenCaptions:
    captioner, split = run.captioner, request.split
    decode = captioner.vocabulary.decode
    corpus = run.corpus if request.data is None else _other_corpus(run, request)
    corpus.require(split)
    hypotheses = captioner.write(corpus, [image.image_id for image in corpus.splits[split]])
    captions = {image: [decode(h.tokens)] for image, h in hypotheses.items()}
    if request.num_samples:
        samples = sample(captioner, corpus, split, request.num_samples)
        for image, drawn in samples.items():
            captions[image] += [decode(h.tokens) for h in drawn]
    likelihood = {"perplexity": perplexity(captioner, run.tokenizer, corpus, split)}
    if request.pool_size:
        pool = min(request.pool_size, len(captions))
        recalls = retrieval(captioner, run.tokenizer, corpus, split, pool)
        likelihood |= {f"{name}_of_{pool}": value for name, value in recalls.items()}
    truth = run.dataset.truth if request.data is None else None
    warnings = []
    if request.data is None and split != "train":
        warnings = _data_warnings(run.config, corpus, run.corpus_fingerprint)
    return WrittenCaptions(corpus, captions, truth, likelihood, run.tokenizer, warnings)


def _data_warnings(config: Mapping[str, Any], corpus: CaptionCorpus, trained_on: str) -> list[str]:
    if corpus.fingerprint == trained_on:
        return []
    return [
        f"the captions or splits in {config['data']['root']} have changed since the model was "
        "trained: it may have been trained on some of these images, and its scores of that time "
        "are of the old ones."
    ]


def _other_corpus(run: TrainedRun, request: Request) -> CaptionCorpus:
    """The run's data at another place, or another data set.

    Where the files give no splits, they are drawn as the run's were: drawn otherwise, the test
    images would be partly those that it was trained on.
    """
    assert request.data is not None
    data = run.config["data"]
    seed = data.get("split_seed", 0) if request.split_seed is None else request.split_seed
    return read_corpus(request.data, data.get("dialect", "auto"), split_seed=seed)
