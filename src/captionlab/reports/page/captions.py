"""A page of photos and their captions, written photo by photo."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlab.errors import printable
from captionlab.reports.page.page import policy_hash

_QUALITY = 60
_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src '{hash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1><bdi>{title}</bdi></h1>
<p class="muted">Each photo is shown as the model saw it. The number after a caption is its
log-probability.</p></header>
<main id="cards">
"""
_TAIL = "</main>\n</body>\n</html>\n"


class CaptionsPage:
    """One self-contained HTML file, open as a context.

    Nothing in it is fetched, and it has no script. All text is escaped.

    Args:
        file: written as photos come.
        title: of the page.
    """

    def __init__(self, file: TextIO, title: str) -> None:
        self._file = file
        self._title = title

    def __enter__(self) -> Self:
        style = (files(__package__) / "style.css").read_text(encoding="utf-8")
        values = {"hash": policy_hash(style), "title": _text(self._title), "style": style}
        self._file.write(_HEAD.format(**values))
        return self

    def __exit__(self, *error: object) -> None:
        self._file.write(_TAIL)

    def add(self, photo: Mapping[str, Any], pixels: NDArray[np.uint8] | None) -> None:
        """Write one photo.

        Args:
            photo: `source`, and `error` or `alternatives`, each with `text`, `log_probability` and
                `truncated`.
            pixels: RGB (h, w, 3); None for a photo that cannot be read.
        """
        name = _text(str(photo["source"]))
        shown = '<div class="gone">cannot be read</div>'
        if pixels is not None:
            shown = f'<img alt="" loading="lazy" src="{_data(pixels)}">'
        captions = "".join(_caption(caption) for caption in photo.get("alternatives", ()))
        error = f'<p class="no">{_text(photo["error"])}</p>' if "error" in photo else ""
        self._file.write(
            f'<article class="card"><figure>{shown}<figcaption><bdi>{name}</bdi></figcaption>'
            f'</figure><div>{error}<ol class="captions">{captions}</ol></div></article>\n'
        )


def _caption(caption: Mapping[str, Any]) -> str:
    text = _text(caption["text"]) or "(empty caption)"
    cut = ' <span class="muted">[cut at the longest length]</span>' * caption["truncated"]
    score = f'<span class="score">{caption["log_probability"]:.2f}</span>'
    return f"<li>{score}<bdi>{text}</bdi>{cut}</li>"


def _text(text: str) -> str:
    return escape(printable(text))


def _data(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
