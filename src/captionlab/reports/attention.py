"""The picture of where a model looked."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 5


def draw_attention(
    photo: NDArray[np.uint8],
    words: Sequence[str],
    maps: NDArray[np.floating],
    grid_size: tuple[int, int],
) -> bytes:
    """The photo as the encoder saw it, and it again for each word, lit where the model looked.

    Args:
        photo: RGB (h, w, 3).
        words: of the caption.
        maps: attention per word, (T, P) for T words, P row by row.
        grid_size: rows and columns.

    Returns:
        A PNG file. Each word's picture has its own scale, from its least to its most looked at.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late: it takes a second
    from matplotlib.figure import Figure

    num_rows = -(-(len(words) + 1) // _COLUMNS)
    figure = Figure(figsize=(2 * _COLUMNS, 2.2 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    tiles = figure.subplots(num_rows, _COLUMNS, squeeze=False).flatten()
    for tile in tiles:
        tile.set_axis_off()
    tiles[0].imshow(photo)
    height, width = photo.shape[:2]
    for tile, word, looked in zip(tiles[1:], words, maps, strict=False):
        tile.imshow(photo)
        tile.imshow(
            looked.reshape(grid_size),
            cmap="gray",
            alpha=0.7,
            interpolation="bicubic",
            extent=(0, width, height, 0),
        )
        tile.set_title(word, fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()
