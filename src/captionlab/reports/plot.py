"""The picture of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from captionlab.reports.figure import new_figure, plain_text

_COLOURS = ("#2a6f97", "#61a5c2")
_BLIND, _INK, _PEOPLE = "#d1495b", "#222222", "#8d99ae"
_LABEL = 40  # letters
MOST_SYSTEMS = 40  # in the picture; the best
_CURVES = ("#2a6f97", "#d1495b", "#3a7d44", "#8f5fbf", "#c98a1b", "#555555", "#17a2b8", "#a0522d")
MOST_CURVES = len(_CURVES)


class Panel(NamedTuple):
    """One score of all systems.

    Attributes:
        title: of the score.
        scale: what its values are multiplied by.
        values: per system, of its runs.
        blind: per system, of the same captions on other images; may be empty.
        ends: per system, of its interval over images; empty if there are none.
        people: each image's first reference scored against its others; None where unknown.
    """

    title: str
    scale: float
    values: Sequence[Sequence[float]]
    blind: Sequence[Sequence[float]]
    ends: Sequence[tuple[float, float]]
    people: float | None = None


def draw(labels: Sequence[str], panels: Sequence[Panel]) -> Any:
    """Bars of one or two scores, with a dot per seed, intervals, blind scores and people's.

    Args:
        labels: one per system, the best first; the first 40 are drawn.
        panels: from left to right.

    Returns:
        A figure.
    """
    labels = [_shorten(label) for label in labels]
    shown = labels[:MOST_SYSTEMS]
    rows = [*shown, *(["people"] if any(panel.people is not None for panel in panels) else [])]
    figure = new_figure(9.5, 1.5 + 0.42 * len(rows))
    ratios = (1.4, 1)[: len(panels)]
    grid = figure.subplots(1, len(panels), sharey=True, width_ratios=ratios, squeeze=False)[0]
    for axes, panel, colour in zip(grid, panels, _COLOURS, strict=False):
        _draw_bars(axes, panel, colour, len(shown))
    left, first = grid[0], panels[0]
    if any(first.blind):
        left.plot([], [], color=_BLIND, lw=2.5, label="the same captions, photos shuffled (blind)")
    if first.ends:
        left.plot([], [], color=_INK, lw=1.2, label="95 % interval over images")
    if len(shown) < len(labels):
        figure.suptitle(f"the best {len(shown)} of {len(labels)}", fontsize=10)
    left.set_yticks(range(len(rows)), rows)
    left.invert_yaxis()
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    return figure


def draw_curves(
    setting: str, curves: Mapping[str, Mapping[float, int]], panels: Sequence[Panel]
) -> Any:
    """One or two scores against a number that was varied: means, and a dot per seed.

    Args:
        setting: what the number is called.
        curves: per curve, by its label, the system at each number; at most `MOST_CURVES`.
        panels: from left to right.

    Returns:
        A figure.
    """
    figure = new_figure(9.5, 4.2)
    places = sorted({place for curve in curves.values() for place in curve})
    is_log = places[0] > 0 and places[-1] > 20 * places[0]
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        for (label, curve), colour in zip(curves.items(), _CURVES, strict=False):
            points = {x: [panel.scale * v for v in panel.values[curve[x]]] for x in sorted(curve)}
            known = {x: values for x, values in points.items() if values}
            axes.plot(list(known), [*map(fmean, known.values())], color=colour, label=label)
            dots = [(x, value) for x, values in known.items() for value in values]
            axes.plot([x for x, _ in dots], [y for _, y in dots], "o", color=colour, ms=3.5)
        axes.set_title(f"{panel.title} x{panel.scale:g}", loc="left", fontsize=10)
        if is_log:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(places, [f"{place:g}" for place in places], fontsize=9)
        axes.set_xlabel(plain_text(setting))
        axes.grid(axis="y", alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    if len(curves) > 1:
        handles, names = grid[0].get_legend_handles_labels()
        names = [_shorten(name) for name in names]
        figure.legend(handles, names, loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    return figure


def _shorten(label: str) -> str:
    text = label if len(label) <= _LABEL else f"{label[: _LABEL - 3]}..."
    return plain_text(text)


def _draw_bars(axes: Any, panel: Panel, colour: str, number: int) -> None:
    rows = [[panel.scale * value for value in values] for values in panel.values[:number]]
    ends = [(panel.scale * low, panel.scale * high) for low, high in panel.ends[:number]]
    means = [fmean(values) if values else 0.0 for values in rows]
    axes.barh(range(len(rows)), means, height=0.62, color=colour)
    for row, (low, high) in enumerate(ends):
        axes.plot([low, high], [row, row], color=_INK, lw=1.2)
    furthest = [high for _, high in ends] or means
    for row, (values, mean) in enumerate(zip(rows, means, strict=True)):
        if len(values) > 1:
            axes.plot(values, [row] * len(values), "o", color=_INK, ms=3.5)
        _annotate(axes, mean, max([mean, furthest[row], *values]), row)
    people = 0.0
    if panel.people is not None:
        people = panel.scale * panel.people
        axes.barh([number], [people], height=0.62, color=_PEOPLE)
        _annotate(axes, people, people, number)
    for row, blind in enumerate(panel.blind[:number]):
        if blind:
            place = panel.scale * fmean(blind)
            axes.plot([place] * 2, [row - 0.36, row + 0.36], color=_BLIND, lw=2.5)
    axes.set_title(f"{panel.title} x{panel.scale:g}", loc="left", fontsize=10)
    axes.set_xlim(0, 1.15 * max([1e-9, people, *furthest, *(v for values in rows for v in values)]))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _annotate(axes: Any, value: float, place: float, row: int) -> None:
    axes.annotate(
        f"{value:.1f}", (place, row), (4, 0), textcoords="offset points", va="center", fontsize=9
    )
