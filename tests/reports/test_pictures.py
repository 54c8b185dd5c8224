"""Pictures are drawn of whatever a run wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionlab.corpora import CaptionCorpus
from captionlab.evaluation.result import Prediction
from captionlab.reports.attention import draw_attention
from captionlab.reports.plot import Panel, draw
from captionlab.reports.samples import choose, draw_samples


def predictions(
    corpus: CaptionCorpus, caption: str = "a $red_ball [/x] \x1b[31m"
) -> list[Prediction]:
    return [
        Prediction(image.image_id, caption, {"cider_d": float(i)}, {})
        for i, image in enumerate(corpus.splits["test"])
    ]


def height_and_width(png: bytes, folder: Path) -> tuple[int, int]:
    (folder / "x.png").write_bytes(png)
    return np.asarray(Image.open(folder / "x.png")).shape[:2]


def test_samples_are_the_best_the_worst_and_some_by_chance(shapes: CaptionCorpus) -> None:
    whole = predictions(shapes) * 3
    chosen = choose(whole, "cider_d", seed=0)
    assert list(chosen) == ["best by CIDEr-D", "worst by CIDEr-D", "at random"]
    assert [len(group) for group in chosen.values()] == [4, 4, 4]
    values = [[p.scores["cider_d"] for p in group] for group in chosen.values()]
    assert min(values[0]) >= max(values[2])
    assert max(values[1]) <= min(values[2])
    assert chosen == choose(whole, "cider_d", seed=0)
    assert chosen["at random"] != choose(whole, "cider_d", seed=1)["at random"]
    assert list(choose(whole[:1], "cider_d", seed=0)) == ["best by CIDEr-D"]
    assert list(choose(whole[:3], None, seed=0)) == ["at random"]


def test_a_sheet_has_a_place_for_a_photo_that_is_gone(
    shapes: CaptionCorpus, tmp_path: Path
) -> None:
    images = list(shapes.splits["test"])
    sheet = draw_samples("run", images, predictions(shapes), seed=0)
    assert sheet == draw_samples("run", images, predictions(shapes), seed=0)
    gone = [type(i)(i.image_id, tmp_path / "no.jpg", i.captions) for i in images]
    without = draw_samples("run", gone, predictions(shapes, caption=""), seed=0)
    assert height_and_width(without, tmp_path) == height_and_width(sheet, tmp_path)


@pytest.mark.parametrize("words", [[], ["a", "$x_"], ["long"] * 30])
def test_attention_has_a_tile_per_word(words: list[str], tmp_path: Path) -> None:
    photo = np.full((20, 20, 3), 255, np.uint8)
    maps = np.full((len(words), 2, 2), 0.25, np.float32)
    png = draw_attention(photo, " ".join(words), words, list(maps))
    height, width = height_and_width(png, tmp_path)
    assert width == 1200
    assert height > 200 * (1 + len(words) // 5)


def test_people_and_at_most_forty_systems_stand_in_the_comparison() -> None:
    values = [[0.5 - 0.001 * i] for i in range(60)]
    panel = Panel("CIDEr-D", 100, values, [], [], people=0.9)
    figure = draw([f"a long name {'x' * 90} {i}" for i in range(60)], [panel])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == 41
    assert labels[-1] == "people"
    assert max(map(len, labels)) <= 40
    assert figure.get_suptitle() == "the best 40 of 60"
