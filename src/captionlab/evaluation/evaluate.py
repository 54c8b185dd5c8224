"""Scores of captions from anywhere: a run, a checkpoint, or a file that any system wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from captionlab.captioner.captioner import TrainedEnsemble, TrainedModel, checkpoint_of, override
from captionlab.config import build
from captionlab.corpora import CaptionCorpus, read_corpus
from captionlab.corpora.corpus import Split
from captionlab.errors import ConfigError, DataError, RunError
from captionlab.evaluation.captions_file import read_results
from captionlab.evaluation.scoring import ScoredCaptions, Truth, score_captions
from captionlab.metrics.caption_metrics import TokenizerName
from captionlab.metrics.diversity import mutual_bleu
from captionlab.metrics.java import JavaError
from captionlab.metrics.words import word_table
from captionlab.reports.evaluation import EvaluatedCaptions
from captionlab.runs.folder import RunFolder
from captionlab.text import PTBTokenizer


@dataclass(frozen=True)
class Request:
    """What to evaluate on, and what more to find out.

    Attributes:
        data: root of a data set; None for a run's own.
        split: of it.
        image_list: names the images of a text file's captions, line by line.
        subset: score the images that have captions where others have none.
        tokenizer: `python` scores without Java, under names of their own.
        num_samples: captions drawn per image for diversity; 0 for none. A results file brings its
            own.
        pool_size: images among which a caption looks for its own; 0 for no retrieval.
        spice: folder with SPICE's jars; None for no SPICE.
        overrides: `key=value` of a run's configuration.
    """

    data: Path | None = None
    split: Split = "test"
    image_list: Path | None = None
    subset: bool = False
    tokenizer: TokenizerName = "stanford"
    num_samples: int = 0
    pool_size: int = 0
    spice: Path | None = None
    overrides: Sequence[str] = ()


def evaluate(target: Path, request: Request) -> EvaluatedCaptions:
    """Score a run folder, a checkpoint or a results file.

    A run's test captions are taken from its folder; captions of any other split, data set or
    configuration are written by its model.

    Raises:
        CaptionLabError: if the target, the data or an option cannot be used.
    """
    if target.is_dir():
        return _evaluate_run(target, request)
    if not target.exists():
        raise RunError(f"{target} does not exist; give a run folder, a checkpoint or a file.")
    if target.suffix == ".ckpt":
        return _evaluate_model(target.stem, TrainedModel(target, request.overrides), request)
    if request.data is None:
        raise ConfigError(f"{target} is scored against a data set: name its folder, --data ROOT.")
    if request.pool_size or request.overrides:
        raise ConfigError(f"{target}: --retrieval and --set need a model, not a file of captions.")
    corpus = read_corpus(request.data)
    corpus.require(request.split)
    images = list(corpus.references(request.split))
    written = read_results(target, images, request.image_list)
    return _score(target.stem, corpus, written, request)


def evaluate_ensemble(folders: Sequence[Path], request: Request) -> EvaluatedCaptions:
    """Score the captions that finished runs write together.

    Raises:
        CaptionLabError: if a folder is no finished run, or the runs differ in data or vocabulary.
    """
    name = "-".join(["ensemble", *(folder.name.rsplit("-", 1)[-1] for folder in folders)])
    return _evaluate_model(name, TrainedEnsemble(folders, request.overrides), request)


def _evaluate_run(folder: Path, request: Request) -> EvaluatedCaptions:
    checkpoint, run = checkpoint_of(folder), RunFolder(folder)
    config = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
    needs_model = request.num_samples or request.pool_size or request.overrides
    if request.split != "test" or request.data is not None or needs_model:
        return _evaluate_model(folder.name, TrainedModel(checkpoint, request.overrides), request)
    datamodule = build.build_reader(override(config, ()))
    corpus = datamodule.read_usable()
    known = list(corpus.references("test"))
    captions = read_results(run.predictions_path, known)
    return _score(folder.name, corpus, captions, request, datamodule.truth)


def _evaluate_model(name: str, model: TrainedModel, request: Request) -> EvaluatedCaptions:
    root = request.data
    corpus = model.datamodule.read_usable() if root is None else read_corpus(root)
    corpus.require(request.split)
    hypotheses = model.write(corpus, request.split)
    captions = {image: [model.vocabulary.decode(h.tokens)] for image, h in hypotheses.items()}
    if request.num_samples:
        drawn = model.sample(corpus, request.split, request.num_samples)
        for image, samples in drawn.items():
            captions[image] += [model.vocabulary.decode(h.tokens) for h in samples]
    likelihood = {"perplexity": model.perplexity(corpus, request.split)}
    if request.pool_size:
        pool = min(request.pool_size, len(captions))
        found = model.retrieval(corpus, request.split, pool)
        likelihood |= {f"{key}_of_{pool}": value for key, value in found.items()}
    truth = model.datamodule.truth if root is None else None
    return _score(name, corpus, captions, request, truth, likelihood)


def _score(
    name: str,
    corpus: CaptionCorpus,
    written: Mapping[str, Sequence[str]],
    request: Request,
    truth: Truth | None = None,
    likelihood: Mapping[str, float] | None = None,
) -> EvaluatedCaptions:
    """Score each image's first caption; the others tell how much captions differ."""
    references = corpus.references(request.split)
    data = f"{corpus.name}-{request.split}"
    if request.subset and len(written) < len(references):
        data += f"-subset-{len(written)}"
    scored = score_captions(
        corpus,
        request.split,
        {image: captions[0] for image, captions in written.items()},
        truth=truth or (lambda captions: {}),
        seed=0,
        tokenizer=request.tokenizer,
        subset=request.subset,
    )
    if request.spice is not None:
        try:
            value, per_image = scored.metrics.spice(scored.captions, request.spice)
            scored.scores.corpus["spice"], scored.scores.per_image["spice"] = value, per_image
        except JavaError as error:
            scored.scores.missing["spice"] = str(error)
    scored.language |= likelihood or {}
    samples = {i: written[i][1:] if request.num_samples else written[i] for i in scored.captions}
    if len(next(iter(samples.values()))) > 1:
        scored.language |= _sample_diversity(samples, scored)
    tokenize = PTBTokenizer()
    words = word_table(
        {image: tokenize(caption) for image, caption in scored.captions.items()},
        {image: [tokenize(text) for text in references[image]] for image in scored.captions},
    )
    return EvaluatedCaptions(name, data, scored.summary(), scored.rows(), words)


def _sample_diversity(
    samples: Mapping[str, Sequence[str]], scored: ScoredCaptions
) -> dict[str, float]:
    numbers = {len(captions) for captions in samples.values()}
    if len(numbers) != 1:
        raise DataError(
            f"images have between {min(numbers)} and {max(numbers)} captions; how much they "
            "differ is only defined for the same number."
        )
    tokenize = PTBTokenizer()
    texts = {i: [" ".join(tokenize(c)) for c in captions] for i, captions in samples.items()}
    return {
        "samples": float(numbers.pop()),
        "mbleu_4": mutual_bleu(texts),
        "self_cider": scored.metrics.self_cider(samples),
    }
