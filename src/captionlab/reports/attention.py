"""Figures of attention and saliency maps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captionlab.reports.figure import new_figure, plain_text, to_png

_COLUMNS = 5
_DARKEST = 0.75  # of black over what was not looked at
_LINE = 70  # letters of the caption


def draw_attention(
    photo: NDArray[np.uint8],
    caption: str,
    words: Sequence[str],
    maps: Sequence[NDArray[np.floating]],
    method: str = "attention",
) -> bytes:
    """The photo as the encoder sees it, then once per word, darkened where the map is low.

    All words share one scale: full colour is the largest value of the caption. Negative ones are
    dark.

    Args:
        photo: RGB (h, w, 3).
        caption: the title.
        words: of the caption, without its end.
        maps: per word, (rows, columns): attention, or what else says which part matters.
        method: what the maps are: `attention`, `gradients` or `occlusion`; the title says it.

    Returns:
        A PNG file.
    """
    num_rows = -(-(len(words) + 1) // _COLUMNS)
    title = "\n".join(textwrap.wrap(caption, _LINE)) or "(empty caption)"
    figure = new_figure(2 * _COLUMNS, 2.25 * num_rows + 0.3 * (2 + title.count("\n")))
    figure.suptitle(plain_text(title), fontsize=13)
    tiles = figure.subplots(num_rows, _COLUMNS, squeeze=False).flatten()
    for tile in tiles:
        tile.set_axis_off()
    tiles[0].imshow(photo)
    tiles[0].set_title(f"photo, {method}", fontsize=10, color="gray")
    height, width = photo.shape[:2]
    maps = [np.maximum(weights, 0) for weights in maps]
    largest = max((float(weights.max()) for weights in maps), default=1.0) or 1.0
    for tile, word, weights in zip(tiles[1:], words, maps, strict=False):
        tile.imshow(photo)
        shade = np.zeros((*weights.shape, 4))
        shade[..., 3] = _DARKEST * (1 - weights / largest)
        tile.imshow(shade, interpolation="bicubic", extent=(0, width, height, 0))
        share = "" if method == "occlusion" else f"  {100 * float(weights.max()):.0f} %"
        tile.set_title(plain_text(word) + share, fontsize=10)
    return to_png(figure, dpi=120)
