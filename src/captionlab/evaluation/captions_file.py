"""Captions that any system wrote, from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captionlab.corpora.readers.text import can_be_written, parse_json, read_lines
from captionlab.errors import DataError


def read_results(
    path: Path, image_ids: Sequence[str], image_list: Path | None = None
) -> dict[str, list[str]]:
    """Read captions; the form is detected from the content, whatever the file is called.

    - COCO results: a JSON list of `{"image_id": ..., "caption": ...}`.
    - JSON lines: such an object per line, with `"captions": [...]` where there are several.
    - Text: one caption per line, its images named line by line in `image_list`.

    Args:
        path: of the file.
        image_ids: of the data set. A file may name an image by its id, or by the id without its
            extension.
        image_list: of a text file; a JSON file names its images itself.

    Returns:
        Image id to its captions, at least one.

    Raises:
        DataError: for a file that is missing, empty or of another form, an image that is unknown,
            and two captions for one image.
    """
    lines = read_lines(path)
    text = "\n".join(lines).strip()
    if not text:
        raise DataError(f"{path} is empty; expected captions.")
    if image_list is not None and not _JSON.match(text):
        entries = _from_text(path, lines, image_list)
    elif text.startswith("["):
        entries = _from_json(path, text)
    elif text.startswith("{"):
        entries = _from_json_lines(path, lines)
    else:
        raise DataError(
            f"{path} is neither a JSON list nor JSON lines; for one caption per line, name the "
            "file that lists the images: --images FILE."
        )
    return _match(path, entries, image_ids)


_JSON = re.compile(r'\{\s*"|\[\s*[{\]]')  # a caption may begin with a bracket, but hardly so
_Entry = tuple[str, str, list[str]]  # place in the file, image, captions


def _from_text(path: Path, lines: list[str], image_list: Path) -> list[_Entry]:
    images = [line.strip() for line in read_lines(image_list) if line.strip()]
    # A caption may be empty, the end of a file is not one.
    while len(lines) > len(images) and not lines[-1].strip():
        lines = lines[:-1]
    if len(images) != len(lines):
        raise DataError(
            f"{path} has {len(lines)} captions, but {image_list} names {len(images)} images; "
            "expected one line each."
        )
    return [
        (f"line {number}", image, [caption])
        for number, (image, caption) in enumerate(zip(images, lines, strict=True), 1)
    ]


def _from_json(path: Path, text: str) -> list[_Entry]:
    values = enumerate(parse_json(text, str(path)), 1)
    return [_entry(path, f"entry {number}", value) for number, value in values]


def _from_json_lines(path: Path, lines: Iterable[str]) -> list[_Entry]:
    entries = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"line {number}"
            entries.append(_entry(path, place, parse_json(line, f"{path}, {place}")))
    return entries


def _entry(path: Path, place: str, value: Any) -> _Entry:
    image = value.get("image_id") if isinstance(value, dict) else None
    captions = None
    if isinstance(image, str | int) and not isinstance(image, bool):
        captions = value.get("captions", [value.get("caption")])
    if not isinstance(captions, list) or not captions:
        captions = [None]
    if not all(isinstance(caption, str) for caption in captions):
        raise DataError(
            f"{path}, {place}: expected an object with image_id and caption, "
            f"found {json.dumps(value)[:80]}."
        )
    if not all(map(can_be_written, captions)):
        raise DataError(
            f"{path}, {place}: a caption holds half of a surrogate pair, which no file can hold; "
            "remove it."
        )
    return place, str(image), captions


def _match(path: Path, entries: list[_Entry], image_ids: Sequence[str]) -> dict[str, list[str]]:
    known = set(image_ids)
    by_stem: dict[str, list[str]] = {}
    for image in image_ids:
        by_stem.setdefault(Path(image).stem, []).append(image)
    captions: dict[str, list[str]] = {}
    for place, name, written in entries:
        candidates = [name] if name in known else by_stem.get(Path(name).stem, [])
        if len(candidates) != 1:
            raise DataError(
                f"{path}, {place}: there is no image {name!r} among the {len(known)} of the "
                f"split, such as {image_ids[0]!r}; give the data set and split that the captions "
                "were written for."
            )
        image = candidates[0]
        if image in captions:
            raise DataError(
                f"{path}, {place}: a second caption for image {name!r}; give one for each, or "
                'several as "captions": [...].'
            )
        captions[image] = written
    return captions
