"""The picture of a comparison."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import fmean
from typing import Any


def draw(
    labels: Sequence[str],
    cider: Sequence[Sequence[float]],
    blind: Sequence[Sequence[float]],
    bleu: Sequence[Sequence[float]],
    cider_ends: Sequence[tuple[float, float]],
    bleu_ends: Sequence[tuple[float, float]],
) -> bytes:
    """CIDEr-D beside its blind score, and BLEU-4; a dot per seed.

    Args:
        labels: one per row, the best first.
        cider: CIDEr-D x100 of each row's runs.
        blind: CIDEr-D x100 of the same captions on other images.
        bleu: BLEU-4 x100.
        cider_ends: of each row's interval over images, x1; empty where there is none.
        bleu_ends: the same of BLEU-4.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late: it takes a second
    from matplotlib.figure import Figure

    height = 1.5 + 0.42 * len(labels)
    figure = Figure(figsize=(9.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.4, 1))
    _bars(left, cider, cider_ends, "#2a6f97", "CIDEr-D")
    for row, values in enumerate(blind):
        if values:
            left.plot([fmean(values)] * 2, [row - 0.36, row + 0.36], color="#d1495b", lw=2.5)
    left.plot([], [], color="#d1495b", lw=2.5, label="the same captions, photos shuffled (blind)")
    if cider_ends:
        left.plot([], [], color="#222222", lw=1.2, label="95 % interval over images")
    _bars(right, bleu, bleu_ends, "#61a5c2", "BLEU-4")
    left.set_yticks(range(len(labels)), labels)
    left.invert_yaxis()
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _bars(
    axes: Any,
    rows: Sequence[Sequence[float]],
    ends: Sequence[tuple[float, float]],
    colour: str,
    title: str,
) -> None:
    means = [fmean(values) if values else 0.0 for values in rows]
    axes.barh(range(len(rows)), means, height=0.62, color=colour)
    for row, (low, high) in enumerate(ends):
        axes.plot([100 * low, 100 * high], [row, row], color="#222222", lw=1.2)
    furthest = [100 * high for _, high in ends] or means
    for row, (values, mean) in enumerate(zip(rows, means, strict=True)):
        if len(values) > 1:
            axes.plot(values, [row] * len(values), "o", color="#222222", ms=3.5)
        axes.annotate(
            f"{mean:.1f}",
            (max([mean, furthest[row], *values]), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_title(f"{title} x100", loc="left", fontsize=10)
    axes.set_xlim(0, 1.15 * max([1e-9, *furthest, *(v for values in rows for v in values)]))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
