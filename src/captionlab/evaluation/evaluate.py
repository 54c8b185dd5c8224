"""Scores of captions from anywhere: a run, a checkpoint, or a file that any system wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from captionlab.corpora import read_corpus
from captionlab.errors import ConfigError, DataError, RunError
from captionlab.evaluation.captions_file import read_results
from captionlab.evaluation.request import Request, WrittenCaptions
from captionlab.evaluation.result import Evaluation
from captionlab.evaluation.scoring import score_captions
from captionlab.files import is_safetensors
from captionlab.metrics.counting import NGramReferences
from captionlab.metrics.diversity import mutual_bleu, self_cider
from captionlab.metrics.scorer import tokenize_in_python
from captionlab.metrics.words import word_table


def evaluate(target: Path, request: Request) -> Evaluation:
    """Score a run folder, a checkpoint or a results file.

    A run's test captions are taken from its folder; captions of any other split, data set or
    configuration are written by its model.

    Raises:
        CaptionLabError: if the target, the data or an option cannot be used.
    """
    _check(request)
    if target.is_file() and target.suffix != ".ckpt" and not _is_model(target):
        return score_written(target.stem, _captions_of_file(target, request), request)
    from captionlab.evaluation.models import (
        captions_of_checkpoint,
        captions_of_run,
    )  # all model code

    if target.is_dir():
        return score_written(target.name, captions_of_run(target, request), request)
    if not target.exists():
        raise RunError(f"{target} does not exist; give a run folder, a checkpoint or a file.")
    return score_written(target.stem, captions_of_checkpoint(target, request), request)


def evaluate_ensemble(folders: Sequence[Path], request: Request) -> Evaluation:
    """Score the captions that finished runs write together.

    Raises:
        CaptionLabError: if a folder is no finished run, or the runs differ in data or vocabulary.
    """
    _check(request)
    from captionlab.evaluation.models import captions_of_ensemble

    name = "-".join(["ensemble", *(_short_name(folder) for folder in folders)])
    return score_written(name, captions_of_ensemble(folders, request), request)


def _short_name(member: Path) -> str:
    """The hash of a run's folder, or a file's name."""
    return member.stem if member.is_file() else member.name.rsplit("-", 1)[-1]


def score_written(name: str, written: WrittenCaptions, request: Request) -> Evaluation:
    """Score each image's first caption; the others tell how much captions differ.

    Args:
        name: of the system.
        written: its captions.
        request: which says the split, too.

    Raises:
        DataError: for captions that do not fit the images.
    """
    corpus, captions = written.corpus, written.captions
    references = corpus.references(request.split)
    data = f"{corpus.name}-{request.split}"
    if request.subset and len(captions) < len(references):
        data += f"-subset-{len(captions)}"
    if request.cleaned:
        data += "-cleaned"
    result, predictions = score_captions(
        corpus,
        request.split,
        {image: texts[0] for image, texts in captions.items()},
        truth=written.truth or (lambda captions: {}),
        seed=0,
        tokenizer=request.tokenizer,
        subset=request.subset,
        jar_folder=request.jar_folder,
        cleaned=request.cleaned,
        caption_tokenizer=written.tokenizer,
    )
    images = [prediction.image_id for prediction in predictions]
    tokenized = {image: tokenize_in_python(references[image]) for image in images}
    language = {**result.language, **written.likelihood}
    samples = {i: captions[i][1:] if request.num_samples else captions[i] for i in images}
    if len(samples[images[0]]) > 1:
        language |= _sample_diversity(samples, tokenized)
    first = tokenize_in_python([prediction.caption for prediction in predictions])
    words = word_table(
        {image: caption.split(" ") for image, caption in zip(images, first, strict=True)},
        {image: [text.split(" ") for text in texts] for image, texts in tokenized.items()},
    )
    warnings = [*result.warnings, *written.warnings]
    result = replace(result, language=language, warnings=warnings)
    return Evaluation(name, data, result, predictions, words)


def _check(request: Request) -> None:
    if request.split_seed is not None and request.data is None:
        raise ConfigError("--split-seed needs --data; add --data ROOT, or leave --split-seed out.")
    for option, number in (("samples", request.num_samples), ("retrieval", request.pool_size)):
        if number < 0 or number == 1:
            raise ConfigError(f"--{option} must be at least 2, found {number}.")


def _is_model(path: Path) -> bool:
    """Whether a file is a zip archive, as checkpoints are, or an export, whatever it is called."""
    if is_safetensors(path):
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _captions_of_file(path: Path, request: Request) -> WrittenCaptions:
    if request.data is None:
        raise ConfigError(f"{path} is scored against a data set: name its folder, --data ROOT.")
    if request.num_samples or request.pool_size or request.overrides:
        raise ConfigError(
            f"{path}: --samples, --retrieval and --set need a model, not a file of captions."
        )
    corpus = read_corpus(request.data, split_seed=request.split_seed or 0, needs_photos=False)
    corpus.require(request.split)
    images = list(corpus.references(request.split))
    return WrittenCaptions(corpus, read_results(path, images, request.image_list))


def _sample_diversity(
    samples: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """How much the samples of an image differ; the references are tokenised."""
    numbers = {len(captions) for captions in samples.values()}
    if len(numbers) != 1:
        raise DataError(
            f"images have between {min(numbers)} and {max(numbers)} captions; how much they "
            "differ is only defined for the same number."
        )
    texts = {image: tokenize_in_python(captions) for image, captions in samples.items()}
    return {
        "samples": float(numbers.pop()),
        "mbleu_4": mutual_bleu(texts),
        "self_cider": self_cider(texts, NGramReferences(references)),
    }
