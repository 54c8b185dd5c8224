"""Figures without a screen, as files that are the same for the same figure."""

from __future__ import annotations

import io
from typing import Any, Literal


def new_figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Any:
    """An empty matplotlib figure, its size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late: it takes a second
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Any, dpi: int = 150) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def to_svg(figure: Any) -> bytes:
    """The figure as an SVG file."""
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "captionlab"}):  # else ids are random
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def plain_text(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
