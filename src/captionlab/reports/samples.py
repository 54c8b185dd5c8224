"""A sheet of test photos with what a run wrote about them."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from captionlab.corpora.corpus import CaptionedImage
from captionlab.errors import DataError, printable
from captionlab.evaluation.result import Prediction
from captionlab.metrics import registry
from captionlab.reports.figure import new_figure, plain_text, to_png

_EACH = 4  # best, worst, and drawn at random
_LINE = 30  # letters below a photo
_MOST_LINES = 4  # of a caption or a reference
_POINTS = 13  # from line to line
_SIDE, _GAP = 2.5, 0.2  # of photos, in inches


def draw_samples(
    title: str, images: Sequence[CaptionedImage], predictions: Sequence[Prediction], seed: int
) -> bytes:
    """Photos with caption, first reference and score: the best, the worst and some by chance.

    Args:
        title: above the photos.
        images: of the test split.
        predictions: for them, in any order; at least one.
        seed: of the choice.

    Returns:
        A PNG file. A photo that cannot be read is an empty frame.
    """
    by_id = {image.image_id: image for image in images}
    name = _ranking_score(predictions[0].scores)
    chosen = choose(predictions, name, seed)
    row_height = 0.3 + _SIDE + (2 * _MOST_LINES + 1) * _POINTS / 72
    width, height = (_SIDE + _GAP) * _EACH + _GAP, 0.5 + row_height * len(chosen)
    figure = new_figure(width, height, layout=None)
    figure.text(
        0.5, 1 - 0.2 / height, plain_text(printable(title)), fontsize=12, ha="center", va="top"
    )
    for row, (kind, group) in enumerate(chosen.items()):
        bottom = height - 0.8 - _SIDE - row * row_height
        for column, prediction in enumerate(group):
            left = _GAP + column * (_SIDE + _GAP)
            place = (left / width, bottom / height, _SIDE / width, _SIDE / height)
            axes = figure.add_axes(place)
            axes.set_axis_off()
            _draw(axes, by_id[prediction.image_id], prediction, name)
            if column == 0:
                axes.set_title(kind, loc="left", fontsize=11, fontweight="bold")
    return to_png(figure, dpi=100)


def choose(
    predictions: Sequence[Prediction], name: str | None, seed: int
) -> Mapping[str, Sequence[Prediction]]:
    """Predictions to show by why they are shown; none twice, at most four of each.

    Args:
        predictions: at least one.
        name: of the score to order them by; None for a random choice alone.
        seed: of that choice.
    """
    rest = list(predictions)
    chosen: dict[str, Sequence[Prediction]] = {}
    if name is not None:
        rest.sort(key=lambda p: -p.scores[name])  # stable: in the order of the split where equal
        number = min(_EACH, -(-len(rest) // 3))
        title = registry.find_score(name).title
        chosen[f"best by {title}"] = rest[:number]
        chosen[f"worst by {title}"] = rest[number:][-number:][::-1]
        rest = rest[number:-number]
    chosen["at random"] = random.Random(seed).sample(rest, min(_EACH, len(rest)))
    return {kind: group for kind, group in chosen.items() if group}


def _ranking_score(scores: Mapping[str, float]) -> str | None:
    return next((score.name for score in registry.most_important(list(scores), 1)), None)


def _draw(axes: Any, image: CaptionedImage, prediction: Prediction, name: str | None) -> None:
    from captionlab.images.photos import read_image  # late: imports torch

    try:
        photo = read_image(image.path)
        photo.thumbnail((360, 360))
        side = max(photo.size)
        left, top = (side - photo.size[0]) / 2, (side - photo.size[1]) / 2
        axes.imshow(photo, extent=(left, left + photo.size[0], top + photo.size[1], top))
    except (DataError, OSError):
        side = 360
        axes.text(0.5, 0.5, "photo cannot be read", transform=axes.transAxes, ha="center")
    axes.set_xlim(0, side)
    axes.set_ylim(side, 0)
    axes.set_aspect("equal", anchor="NW")
    lines = _wrap(prediction.caption or "(empty caption)")
    score = "" if name is None else _score(prediction.scores[name], name)
    reference = [*_wrap(f"people: {image.captions[0]}"), score]
    below = -5 - _POINTS * len(lines)
    _write(axes, lines, -5, fontweight="bold")
    _write(axes, reference, below, color="#555555")


def _write(axes: Any, lines: Sequence[str], height: float, **look: str) -> None:
    """Lines of text, their top at a height in points above the photo's lower edge."""
    axes.annotate(
        "\n".join(lines),
        (0, 0),
        (0, height),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=8.5,
        **look,
    )


def _score(value: float, name: str) -> str:
    score = registry.find_score(name)
    return f"{score.title} {score.scale * value:.0f}"


def _wrap(text: str) -> list[str]:
    lines = textwrap.wrap(plain_text(printable(text)), _LINE)
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"{lines[_MOST_LINES - 1]} ..."]
