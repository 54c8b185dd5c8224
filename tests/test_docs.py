"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = ("data", "encoder", "decoder", "conditioning", "objective", "search", "experiment")
EXAMPLES = {page.name: re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in PAGES}


@pytest.mark.parametrize("page", [name for name, examples in EXAMPLES.items() if examples])
def test_the_examples_of_a_page_run(page: str) -> None:
    names: dict[str, Any] = {}
    for example in EXAMPLES[page]:
        exec(example, names)


def test_every_option_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    unnamed = []
    for group in GROUPS:
        for option in sorted((ROOT / "conf" / group).glob("*.yaml")):
            name = option.stem
            shortened = re.sub(r"^resnet(?=\d)", "", name)
            if not ({f"`{name}`", f"`{shortened}`"} & set(re.findall(r"`[^`]*`", readme))):
                unnamed.append(f"{group}={name}")
    assert unnamed == ["conditioning=built_in"]
