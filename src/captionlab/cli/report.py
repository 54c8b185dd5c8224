"""`captionlab report`: compare runs on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from captionlab.cli.terminal import Commands
from captionlab.errors import ConfigError


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser("report", help="compare runs on disk")
    parser.set_defaults(command=run)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a run, or a folder of runs"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the report there")


def run(options: argparse.Namespace) -> None:
    """Print the comparison and, with `--out`, write it.

    Raises:
        ConfigError: if there are no runs in the folders.
    """
    from captionlab.reports import Comparison
    from captionlab.run_files import find_runs

    folders = [run for folder in options.folders for run in find_runs(folder)]
    if not folders:
        names = ", ".join(map(str, options.folders))
        raise ConfigError(f"there are no runs in {names}; name run folders, or folders of them.")
    comparison = Comparison.read(folders)
    comparison.print_table()
    if options.out:
        print("written: " + ", ".join(map(str, comparison.write(options.out))))
