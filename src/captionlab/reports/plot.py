"""The picture of a comparison."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

_COLOURS = ("#2a6f97", "#61a5c2")
_BLIND, _INK = "#d1495b", "#222222"


class Panel(NamedTuple):
    """One score of all systems.

    Attributes:
        title: of the score.
        scale: what its values are multiplied by.
        values: per system, of its runs.
        blind: per system, of the same captions on other images; may be empty.
        ends: per system, of its interval over images; empty if there are none.
    """

    title: str
    scale: float
    values: Sequence[Sequence[float]]
    blind: Sequence[Sequence[float]]
    ends: Sequence[tuple[float, float]]


def draw(labels: Sequence[str], panels: Sequence[Panel]) -> bytes:
    """Bars of one or two scores, with a dot per seed, intervals and blind scores.

    Args:
        labels: one per system, the best first.
        panels: from left to right.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late: it takes a second
    from matplotlib.figure import Figure

    height = 1.5 + 0.42 * len(labels)
    figure = Figure(figsize=(9.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = (1.4, 1)[: len(panels)]
    grid = figure.subplots(1, len(panels), sharey=True, width_ratios=ratios, squeeze=False)[0]
    for axes, panel, colour in zip(grid, panels, _COLOURS, strict=False):
        _draw_bars(axes, panel, colour)
    left, first = grid[0], panels[0]
    if any(first.blind):
        left.plot([], [], color=_BLIND, lw=2.5, label="the same captions, photos shuffled (blind)")
    if first.ends:
        left.plot([], [], color=_INK, lw=1.2, label="95 % interval over images")
    left.set_yticks(range(len(labels)), labels)
    left.invert_yaxis()
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _draw_bars(axes: Any, panel: Panel, colour: str) -> None:
    rows = [[panel.scale * value for value in values] for values in panel.values]
    ends = [(panel.scale * low, panel.scale * high) for low, high in panel.ends]
    means = [fmean(values) if values else 0.0 for values in rows]
    axes.barh(range(len(rows)), means, height=0.62, color=colour)
    for row, (low, high) in enumerate(ends):
        axes.plot([low, high], [row, row], color=_INK, lw=1.2)
    furthest = [high for _, high in ends] or means
    for row, (values, mean) in enumerate(zip(rows, means, strict=True)):
        if len(values) > 1:
            axes.plot(values, [row] * len(values), "o", color=_INK, ms=3.5)
        axes.annotate(
            f"{mean:.1f}",
            (max([mean, furthest[row], *values]), row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    for row, blind in enumerate(panel.blind):
        if blind:
            place = panel.scale * fmean(blind)
            axes.plot([place] * 2, [row - 0.36, row + 0.36], color=_BLIND, lw=2.5)
    axes.set_title(f"{panel.title} x{panel.scale:g}", loc="left", fontsize=10)
    axes.set_xlim(0, 1.15 * max([1e-9, *furthest, *(v for values in rows for v in values)]))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
