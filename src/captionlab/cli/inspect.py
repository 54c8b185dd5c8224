"""`captionlab inspect`: what a checkpoint, an exported file or a run folder holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from captionlab.cli.terminal import Commands
from captionlab.errors import RunError


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "inspect",
        help="what a checkpoint or an exported file holds",
        description="Nothing in the file is executed, and no model is built.",
    )
    parser.set_defaults(command=run)
    parser.add_argument(
        "path",
        type=Path,
        metavar="FILE",
        help="a checkpoint, a file of `captionlab export`, or a finished run's folder",
    )


def run(options: argparse.Namespace) -> None:
    """Print one line per fact.

    Raises:
        RunError: if it is none of these.
    """
    import hashlib

    from captionlab.captioner.export import facts_of
    from captionlab.captioner.load import checkpoint_of, read_checkpoint
    from captionlab.evaluation.result import Result
    from captionlab.files import is_safetensors
    from captionlab.reports.inspection import inspection_rows

    path: Path = options.path
    if not path.exists():
        raise RunError(f"{path} does not exist; give a checkpoint, an exported file or a run.")
    file = checkpoint_of(path) if path.is_dir() else path
    saved = read_checkpoint(file)
    facts = facts_of(file, saved)
    result = Result.from_json(facts["result"], file) if "result" in facts else None
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    kind = "exported file" if is_safetensors(file) else "checkpoint"
    rows = {"file": str(file), "kind": f"{kind}, {file.stat().st_size / 1e6:.1f} MB"}
    rows |= inspection_rows(facts, result, saved["state_dict"]) | {"sha256": digest}
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}")
