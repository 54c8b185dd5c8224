"""Puts facts, photos, style and scripts into one HTML file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from captionlab.reports.page.facts import facts_of, run_facts
from captionlab.reports.page.gallery import Gallery, read_gallery

if TYPE_CHECKING:
    from captionlab.reports.comparison import Comparison

_SCRIPTS = ("elements.js", "table.js", "plots.js", "gallery.js", "main.js")


def render(comparison: Comparison, num_photos: int) -> str:
    """The page of a comparison.

    Nothing in it is fetched: photos are thumbnails in the file, and its content security policy
    forbids requests. All text of runs and data sets is data, which the scripts show as text.

    Args:
        comparison: finished and failed runs on one data set.
        num_photos: how many photos the gallery has at most.
    """
    gallery = read_gallery(comparison, num_photos) if comparison.groups else Gallery({})
    facts = run_facts(comparison)
    if comparison.groups:
        facts["data"] = facts_of(comparison) | {"gallery": gallery.facts}
    folder = files(__package__)
    style = (folder / "style.css").read_text(encoding="utf-8")
    scripts = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{policy_hash(style)}'; "
        f"script-src '{policy_hash(scripts)}'; base-uri 'none'; form-action 'none'"
    )
    template = Template((folder / "index.html").read_text(encoding="utf-8"))
    return template.substitute(
        policy=policy,
        title=escape(", ".join(facts["names"]) or "captionlab"),
        style=style,
        facts=_json(facts),
        gallery="\n".join(_elements(gallery)),
        scripts=scripts,
    )


def _elements(gallery: Gallery) -> Iterator[str]:
    """Compressed captions, and a photo per element, which the page decodes when it is in view."""
    content = gzip.compress(json.dumps(gallery.content).encode(), 6, mtime=0)
    yield _data("captions", base64.b64encode(content).decode())
    for i, photo in enumerate(gallery.photos):
        if photo is not None:
            yield _data(f"photo-{i}", base64.b64encode(photo).decode())


def _data(name: str, text: str) -> str:
    return f'<script type="text/plain" id="{name}">{text}</script>'


def _json(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def policy_hash(text: str) -> str:
    """As the content security policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
