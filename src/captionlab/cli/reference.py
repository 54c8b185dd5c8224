"""The reference of the commands, made from their parsers.

python -m captionlab.cli.reference > docs/commands.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from captionlab.cli import _parser

_HEAD = """\
# Commands

Made from the code by `python -m captionlab.cli.reference > docs/commands.md`, to which a test holds
it. `captionlab COMMAND --help` says the same, with examples. `captionlab train`, which is
`python run.py` in a checkout, takes [options](options.md); so does
[`captionlab tune`](how-to/tune.md).
"""


def commands_reference() -> str:
    """All commands and their arguments, as Markdown."""
    sections = [_HEAD]
    for name, parser, summary in _commands(_parser()):
        if name in ("captionlab train", "captionlab tune"):  # Hydra parses their arguments
            continue
        title = f"## {name}" if name.count(" ") == 1 else f"### {name}"
        sections.append(f"{title}\n\n{summary[:1].upper()}{summary[1:]}.\n")
        rows = [
            f"| {_names(action)} | {_text(action)} |"
            for action in parser._actions
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
        ]
        if rows:
            sections.append("\n".join(["| argument | meaning |", "|:--|:--|", *rows]) + "\n")
    return "\n".join(sections)


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Each command's name, parser and summary, and those of the commands below it."""
    for group in parser._actions:
        if isinstance(group, argparse._SubParsersAction):
            summaries = {action.dest: action.help or "" for action in group._choices_actions}
            for name, below in group.choices.items():
                yield f"{parser.prog.split(' [')[0]} {name}", below, summaries[name]
                yield from _commands(below)


def _names(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    names = ", ".join(action.option_strings)
    return f"`{f'{names} {value}'.strip()}`".replace("|", r"\|")


def _text(action: argparse.Action) -> str:
    defaults = {"default": action.default, "prog": "captionlab"}
    text = (action.help or "") % defaults
    shown = action.default is not None and action.default not in (False, [], argparse.SUPPRESS)
    if shown and action.option_strings and "default" not in text:
        text += f" (default: {action.default})"
    return text.replace("|", r"\|")


if __name__ == "__main__":
    print(commands_reference(), end="")
