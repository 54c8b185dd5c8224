"""Attention maps of a run's test captions: `attention.jsonl` in its folder, for the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlab.errors import RunError
from captionlab.files import write_atomically

_STEPS = 15  # of weight, a hexadecimal digit each


def write_attention(
    path: Path,
    captions: Mapping[str, str],
    maps: Iterable[tuple[str, NDArray[np.floating]]],
    grid_size: tuple[int, int],
    seen: float,
) -> None:
    """Write a line per image.

    Args:
        path: of the file.
        captions: image id to caption.
        maps: image id and weights (T, P) of its caption's T words, P row by row.
        grid_size: rows and columns of the P positions.
        seen: side of the central square that the encoder saw, over the shorter side of the photo.
    """
    lines = []
    for image_id, weights in maps:
        steps = np.rint(weights / max(float(weights.max(initial=0)), 1e-9) * _STEPS).astype(int)
        value = {
            "image_id": image_id,
            "caption": captions[image_id],
            "rows": grid_size[0],
            "columns": grid_size[1],
            "seen": seen,
            # All words of a caption on one scale, so that they can be compared.
            "maps": ["".join(f"{step:x}" for step in word) for word in steps],
        }
        lines.append(json.dumps(value) + "\n")
    write_atomically(path, "".join(lines))


def read_attention(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Image id and caption to `rows`, `columns`, `seen` and `maps`; empty without the file.

    Raises:
        RunError: if the file is damaged.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {(line.pop("image_id"), line.pop("caption")): line for line in lines}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it.") from error
