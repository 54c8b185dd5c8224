"""JSON files that are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def replace_json(path: Path, told: Mapping[str, Any]) -> None:
    """Write a temporary file beside `path`, then rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(told))
    temporary.replace(path)
