"""The options reference, made from the constructors and the files in `conf/`.

python -m captionlab.config.reference > docs/options.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

import captionlab
from captionlab.config.groups import OPEN_GROUPS, RunOptions, groups
from captionlab.options import Option, find_part, options_of

CONF = Path(captionlab.__file__).parent / "conf"
_PARAGRAPH = "\n\n"
_HEAD = """\
# Options

Made from the code by `python -m captionlab.config.reference > docs/options.md`, to which a test
holds it. `GROUP=OPTION` chooses a file of `conf/GROUP`, `GROUP.NAME=VALUE` sets a value; `${...}`
is the value of another option. [models.md](models.md) says where each part comes from.
`data.suggested.NAME` is what a data set proposes to other groups: `data.suggested.dropout=0.2` sets
every option that refers to it, `decoder.dropout=0.2` that one alone. [SLURM](how-to/slurm.md) has
the options of `hydra/launcher=slurm`.
"""


def options_reference() -> str:
    """All groups, their options, and the values that each may have, as Markdown."""
    sections = [_HEAD, "## A run\n", _table(options_of(RunOptions), _read(CONF / "config.yaml"))]
    for name, group in groups().items():
        sections.append(f"\n## {name}\n")
        for specs in _parts(name):
            choices = ", ".join(_choice(name, option) for option in specs)
            first, spec = next(iter(specs.items()))
            sections.append(f"{choices}{_meaning(name, first, spec)}\n")
            if len(specs) > 1 and spec:
                sections.append(f"The values are those of `{first}`; the others have\n")
                sections.append(_differences(specs) + "\n")
            sections.append(_table(group.options(spec), spec))
        if name == "data":
            sections.append(_suggestions())
    for name in (*OPEN_GROUPS, "experiment"):
        sections.append(f"\n## {name}\n")
        sections += [f"- {_line(name, path)}" for path in sorted((CONF / name).glob("*.yaml"))]
    return "\n".join(sections) + "\n"


def _line(group: str, path: Path) -> str:
    """A file whose values go to other people's classes, or over several groups."""
    begin = f"{_choice(group, path.stem)}{_meaning(group, path.stem, {})}"
    if group == "experiment":
        return begin
    values = _read(path)
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if isinstance(value, dict) else None
        leaves |= {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner.items()}
    shown = ", ".join(f"`{key}: {_yaml(value)}`" for key, value in leaves.items())
    return begin + (f": {shown}" if shown else "")


def _choice(group: str, option: str) -> str:
    """How an option is chosen, and whether it is without being asked for."""
    defaults = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return f"`{group}={option}`" + (" (default)" if {group: option} in defaults else "")


def _meaning(group: str, option: str, spec: Mapping[str, Any]) -> str:
    """The class and the first sentence of its docstring, or the comment above a file's values."""
    target = spec.get("_target_")
    if target is None:
        lines = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
        comment = takewhile(lambda line: line.startswith("#"), lines)
        words = " ".join(line.lstrip("# ") for line in comment if "@package" not in line)
        return f". {words}" if words else ""
    docs = inspect.getdoc(find_part(target, object)) or ""
    return f": {target.rpartition('.')[2]}. {' '.join(docs.partition(_PARAGRAPH)[0].split())}"


def _suggestions() -> str:
    """What each data set suggests, a table in Markdown."""
    names = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
    columns = {name: _read(CONF / "data" / f"{name}.yaml")["suggested"] for name in names}
    lines = [
        "What the data sets suggest, as `data.suggested.NAME`:\n",
        f"| NAME | {' | '.join(f'`{name}`' for name in names)} |",
        f"|:--{'|:--' * len(names)}|",
    ]
    for option in columns["captions"]:
        values = " | ".join(f"`{_yaml(columns[name][option])}`" for name in names)
        lines.append(f"| `{option}` | {values} |")
    return "\n".join(lines) + "\n"


def _parts(group: str) -> Iterable[dict[str, dict[str, Any]]]:
    """The options of a group by name, with their values; those of one class together."""
    kinds: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        values = _read(path)
        kind = values.get("_target_", "" if values else "nothing")
        kinds.setdefault(kind, {})[path.stem] = values
    return kinds.values()


def _differences(specs: Mapping[str, Mapping[str, Any]]) -> str:
    """In which values each option differs from the first of its class, a list in Markdown."""
    (_, first), *others = specs.items()
    lines = []
    for name, values in others:
        differing = (key for key in values if key != "name" and first.get(key) != values[key])
        shown = ", ".join(f"`{key}: {_yaml(values[key])}`" for key in differing)
        lines.append(f"- `{name}`: {shown}")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    """A file's values over those of the file that it differs from."""
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    base: dict[str, Any] = {}
    for name in values.pop("defaults", []):
        if isinstance(name, str) and name != "_self_" and path.parent != CONF:
            base |= _read(path.with_name(f"{name}.yaml"))
    merged = {
        key: {**base[key], **value} if isinstance(value, dict) and key in base else value
        for key, value in values.items()
    }
    return base | merged


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
