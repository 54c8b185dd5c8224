"""The options reference, made from the constructors and the files in `conf/`.

python -m captionlab.config.reference > docs/options.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import captionlab
from captionlab.config.groups import OPEN_GROUPS, RunOptions, groups
from captionlab.options import Option, options_of

CONF = Path(captionlab.__file__).parent / "conf"
_HEAD = """\
# Options

Made from the code by `python -m captionlab.config.reference > docs/options.md`, to which a test
holds it. `GROUP=OPTION` chooses a file of `conf/GROUP`, `GROUP.NAME=VALUE` sets a value; `${...}`
is the value of another option. [models.md](models.md) says where each part comes from.
"""


def options_reference() -> str:
    """All groups, their options, and the values that each may have, as Markdown."""
    sections = [_HEAD, "## A run\n", _table(options_of(RunOptions), _read(CONF / "config.yaml"))]
    for name, group in groups().items():
        sections.append(f"\n## {name}\n")
        for names, spec in _parts(name):
            choices = ", ".join(f"`{name}={option}`" for option in names)
            target = spec.get("_target_", "")
            sections.append(f"{choices}{': ' if target else ''}{target.rpartition('.')[2]}\n")
            sections.append(_table(group.options(spec), spec))
    for name in (*OPEN_GROUPS, "experiment"):
        sections.append(f"\n## {name}\n")
        sections += [f"- {_line(name, path)}" for path in sorted((CONF / name).glob("*.yaml"))]
    return "\n".join(sections) + "\n"


def _line(group: str, path: Path) -> str:
    """A file whose values go to other people's classes, or over several groups."""
    if group == "experiment":
        return f"`experiment={path.stem}`"
    values = _read(path)
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if isinstance(value, dict) else None
        leaves |= {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner.items()}
    shown = ", ".join(f"`{key}: {_yaml(value)}`" for key, value in leaves.items())
    return f"`{group}={path.stem}`" + (f": {shown}" if shown else "")


def _parts(group: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Files of one class in a group, and the values of the first."""
    kinds: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        values = _read(path)
        kinds.setdefault(values.get("_target_", "" if values else "nothing"), []).append(
            (path.stem, values)
        )
    for files in kinds.values():
        yield [name for name, _ in files], files[0][1]


def _read(path: Path) -> dict[str, Any]:
    """A file's values over those of the file that it differs from."""
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    base: dict[str, Any] = {}
    for name in values.pop("defaults", []):
        if isinstance(name, str) and name != "_self_" and path.parent != CONF:
            base |= _read(path.with_name(f"{name}.yaml"))
    return base | values


def _table(options: Mapping[str, Option], values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    lines = ["| option | value | may be | meaning |", "|:--|:--|:--|:--|"]
    for name, option in options.items():
        value = _yaml(values.get(name))
        lines.append(f"| `{name}` | `{value}` | {option.allowed} | {option.meaning} |")
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


if __name__ == "__main__":
    print(options_reference(), end="")
