"""What the commands share: the terminal and the arguments that several of them take."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from rich.console import Console

# What `add_subparsers` returns has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def open_console() -> Console:
    """A console as wide as the terminal; a pipe gets all columns."""
    return Console(width=None if Console().is_terminal else 160, highlight=False)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add `--set KEY=VALUE`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a run's configuration, such as search.beam_size=5",
    )
