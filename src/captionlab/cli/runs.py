"""`captionlab runs`: list, show, compare, retry and remove runs, and print their logs."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from captionlab.cli.terminal import Commands, open_console
from captionlab.errors import ConfigError, RunError
from captionlab.run_files import PRUNED, TRAINED, RunFiles, find_all, find_runs

if TYPE_CHECKING:
    from captionlab.reports.run_list import Overview

_NOT_DONE = ("stopped", "failed", "dead")


def add_parser(commands: Commands) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("runs", help="list, compare, retry or remove runs")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, summary in (
        ("list", run_list, "state, settings that differ, progress and scores, one line per run"),
        ("show", run_show, "everything that is known of runs"),
        ("logs", run_logs, "what runs printed, on this machine or on a cluster"),
        ("retry", run_retry, "run those again that stopped, failed or died"),
        ("remove", run_remove, "remove run folders; not those of living runs"),
    ):
        part = parts.add_parser(name, help=summary)
        part.set_defaults(command=command)
        part.add_argument(
            "folders", nargs="+", type=Path, metavar="FOLDER", help="a run, or a folder of runs"
        )
        if name in ("list", "show"):
            part.add_argument("--json", action="store_true", help="for other programs")
    diff = parts.add_parser("diff", help="what differs between two runs")
    diff.set_defaults(command=run_diff)
    for name in ("first", "second"):
        diff.add_argument(name, type=Path, metavar="RUN", help="a run's folder")
    diff.add_argument("--json", action="store_true", help="for other programs")


def run_list(options: argparse.Namespace) -> None:
    """Print one line per run."""
    from captionlab.reports.run_list import overview_table

    overviews = _overviews(options.folders)
    if options.json:
        print(json.dumps([overview.to_json() for overview in overviews], indent=2))
        return
    overview_table(overviews).print(open_console())


def run_show(options: argparse.Namespace) -> None:
    """Print all that is known of each run."""
    overviews = _overviews(options.folders)
    if options.json:
        print(json.dumps([overview.to_json() for overview in overviews], indent=2))
        return
    console = open_console()
    for overview in overviews:
        for name, value in overview.to_json().items():
            if name != "settings" and value not in (None, "", [], {}):
                console.print(f"{name}: {_in_line(value)}", markup=False, soft_wrap=True)
        console.print()


def run_diff(options: argparse.Namespace) -> None:
    """Print settings, scores and costs in which two runs differ."""
    from captionlab.reports.run_list import differences, differences_table

    for folder in (options.first, options.second):
        if find_runs(folder) != [folder]:
            raise ConfigError(f"{folder} is no run; name the folder of one.")
    if options.json:
        print(json.dumps(differences(options.first, options.second), indent=2))
        return
    differences_table(options.first, options.second).print(open_console())


def run_logs(options: argparse.Namespace) -> None:
    """Print the logs of each run."""
    from captionlab.reports.run_list import log_files

    console = open_console()
    for folder in find_all(options.folders):
        for path in log_files(folder):
            console.print(f"== {path}", markup=False, soft_wrap=True)
            text = path.read_text(encoding="utf-8", errors="replace")
            console.print(text, markup=False, soft_wrap=True)


def run_retry(options: argparse.Namespace) -> int:
    """Run again, one after another, the runs without a result that are not running.

    Trials that a search pruned or left untested are retried only where their own folder is named.

    Returns:
        1 if a run failed, else 0.
    """
    again = [
        overview
        for overview in _overviews(options.folders)
        if overview.state in _NOT_DONE
        and (not overview.reason.startswith((TRAINED, PRUNED)) or _is_named(overview, options))
    ]
    if not again:
        print("nothing to retry: no run is stopped, failed or dead")
        return 0
    unknown = [overview for overview in again if not overview.command]
    if unknown:
        raise RunError(
            f"{unknown[0].folder} does not say how it was started; run its original command to "
            "resume it."
        )
    codes = []
    for overview in again:
        print(f"again: {overview.folder}", flush=True)
        status = RunFiles(Path(overview.folder)).read_status() or {}
        # A run that was to be trained alone has its result once it is tested, too.
        words = [w for w in overview.command or [] if not w.lstrip("+").startswith("test=")]
        done = subprocess.run(words, cwd=status.get("working_directory"), check=False)
        codes.append(done.returncode)
    return 1 if any(codes) else 0


def _is_named(overview: Overview, options: argparse.Namespace) -> bool:
    return Path(overview.folder).resolve() in {folder.resolve() for folder in options.folders}


def run_remove(options: argparse.Namespace) -> None:
    """Remove run folders; nothing is removed if one of the runs is alive."""
    overviews = _overviews(options.folders)
    alive = [overview for overview in overviews if overview.state in ("queued", "running")]
    if alive:
        raise RunError(
            f"{alive[0].folder} is {alive[0].state} (host {alive[0].host}, process "
            f"{alive[0].pid}, SLURM job {alive[0].job or 'none'}); stop it first. Nothing was "
            "removed."
        )
    links = [o.folder for o in overviews if Path(o.folder).is_symlink()]
    if links:
        raise RunError(
            f"{links[0]} is a link to {Path(links[0]).resolve()}; name that folder, or remove the "
            "link yourself. Nothing was removed."
        )
    for overview in overviews:
        shutil.rmtree(overview.folder)
        print(f"removed: {overview.folder}")


def _overviews(folders: list[Path]) -> list[Overview]:
    from captionlab.reports.run_list import Overview
    from captionlab.runs.launching.cluster import queued_array_tasks

    runs = find_all(folders)
    on_cluster = any((folder / "slurm.json").exists() for folder in runs)
    queued = queued_array_tasks() if on_cluster else None
    return [Overview.read(folder, queued) for folder in runs]


def _in_line(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {number:.4g}" for name, number in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
