"""What a finished run hands to its loggers."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from captionlab.captioner.attention import caption_attention
from captionlab.captioner.captioner import Captioner
from captionlab.corpora import CaptionCorpus
from captionlab.errors import DataError, printable
from captionlab.evaluation.result import Prediction, Result
from captionlab.features.source import EncoderFeatures
from captionlab.images.photos import read_image
from captionlab.images.preprocessing import read_pixels
from captionlab.metrics import registry
from captionlab.reports.attention import draw_attention
from captionlab.run_files import RunFiles
from captionlab.training.loggers import LoggedPhoto, Outcome

_SIDE = 360  # pixels of a photo


def outcome_of(
    folder: RunFiles,
    captioner: Captioner,
    corpus: CaptionCorpus,
    result: Result,
    predictions: Sequence[Prediction],
    num_photos: int,
    step: int,
) -> Outcome:
    """Collect what a finished run hands to its loggers.

    Args:
        folder: of the run; its curves and files are there.
        captioner: with the best weights.
        corpus: that was trained on.
        result: of the test.
        predictions: of the test.
        num_photos: how many of the predictions are shown.
        step: at which training ended.
    """
    order = random.Random(0).sample(range(len(predictions)), len(predictions))
    shown = [predictions[i] for i in sorted(order[:num_photos])]  # the same for every run
    score = registry.most_important(list(predictions[0].scores), 1)[0]
    return Outcome(
        values={**_numbers(result), **_epochs(folder.metrics_path, result)},
        score_title=score.title,
        photos=list(_photos(captioner, corpus, shown, score.name)) if shown else [],
        samples=folder.samples_path,
        checkpoint=folder.best_checkpoint,
        predictions=folder.predictions_path,
        step=step,
    )


def _numbers(result: Result) -> dict[str, float]:
    """Every number of a result by name."""
    groups: dict[str, Mapping[str, float]] = {
        "test/": result.scores,
        "test/blind_": result.blind,
        "test/human_": result.human,
        "language/": result.language,
        "truth/": result.truth,
    }
    if result.training is not None:
        groups["cost/parameters_"] = result.training.parameters
        groups["cost/seconds_"] = result.training.seconds
        groups["cost/"] = {"peak_memory_bytes": result.training.peak_memory_bytes}
    return {
        f"{kind}{name}": value for kind, group in groups.items() for name, value in group.items()
    }


def _epochs(metrics_path: Path, result: Result) -> dict[str, float]:
    """The curves at the best and at the last epoch, which are counted from 1."""
    assert result.training is not None
    with metrics_path.open(newline="", encoding="utf-8") as file:
        rows = {int(row["epoch"]) + 1: row for row in csv.DictReader(file)}
    values: dict[str, float] = {}
    for kind, epoch in (("best", result.training.best_epoch), ("last", result.training.epochs)):
        values[f"{kind}/epoch"] = epoch
        for name, value in rows.get(epoch, {}).items():
            if value and name.startswith(("train/", "val/")):
                values[f"{kind}/{name}"] = float(value)
    return values


def _photos(
    captioner: Captioner, corpus: CaptionCorpus, predictions: Sequence[Prediction], score: str
) -> Iterator[LoggedPhoto]:
    """The photos of predictions; those that cannot be read are left out."""
    images = {image.image_id: image for image in corpus.splits["test"]}
    maps = _attention_pictures(captioner, corpus, predictions)
    for prediction in predictions:
        image = images[prediction.image_id]
        try:
            picture = read_image(image.path)
        except (DataError, OSError):
            continue
        picture.thumbnail((_SIDE, _SIDE))
        yield LoggedPhoto(
            image_id=image.image_id,
            picture=picture,
            references=image.captions,
            caption=prediction.caption,
            score=prediction.scores[score],
            attention=maps.get(image.image_id),
        )


def _attention_pictures(
    captioner: Captioner, corpus: CaptionCorpus, predictions: Sequence[Prediction]
) -> dict[str, Image.Image]:
    """By image id; none if the model does not attend, or nobody knows to what places."""
    source = captioner.source
    assert isinstance(source, EncoderFeatures)
    if not captioner.decoder.attends or not source.places_known:
        return {}
    captions = {prediction.image_id: prediction.caption for prediction in predictions}
    paths = {image.image_id: image.path for image in corpus.splits["test"]}
    pictures: dict[str, Image.Image] = {}
    for image_id, maps in caption_attention(captioner, corpus, captions):
        try:
            pixels = read_pixels(paths[image_id], source.preprocessing)
        except (DataError, OSError):
            continue
        picture = draw_attention(
            pixels.permute(1, 2, 0).numpy(),
            printable(captions[image_id]),
            [printable(word) for word in captions[image_id].split()],
            list(maps.view(-1, *source.feature_shape.grid_size).numpy()),
        )
        pictures[image_id] = Image.open(io.BytesIO(picture))
    return pictures
