"""`captionlab inspect`: what a checkpoint, an exported file or folder or a run folder holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from captionlab.cli.terminal import Commands
from captionlab.errors import RunError
from captionlab.files import digest, is_safetensors


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
        help="a checkpoint, a file or folder of `captionlab export`, or a finished run's folder",
    )


def run(options: argparse.Namespace) -> None:
    """Print one line per fact.

    Raises:
        RunError: if it is none of these.
        StorageError: if it is damaged.
    """
    from captionlab.evaluation.result import Result
    from captionlab.reports.inspection import inspection_rows

    path: Path = options.path
    if not path.exists():
        raise RunError(f"{path} does not exist; give a checkpoint, an exported file or a run.")
    kind, facts, tensors, files = _read(path)
    result = Result.from_json(facts["result"], path) if facts.get("result") else None
    rows = {"file": str(files[0] if len(files) == 1 else path)}
    rows["kind"] = f"{kind}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
    rows |= inspection_rows(facts, result, tensors)
    for file in files:
        rows["sha256" if len(files) == 1 else f"sha256 of {file.name}"] = digest(file)
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}")


def _read(path: Path) -> tuple[str, dict[str, Any], dict[str, Any], list[Path]]:
    """Kind, facts, tensors by name (none of ONNX) and files of what was exported or trained."""
    from captionlab.captioner.export import facts_of
    from captionlab.captioner.load import checkpoint_of, read_checkpoint
    from captionlab.captioner.onnx_export import read_onnx

    if (path / "captioner.json").is_file():
        facts, files = read_onnx(path)
        return "ONNX", facts, {}, files
    file = checkpoint_of(path) if path.is_dir() else path
    saved = read_checkpoint(file)
    kind = "exported file" if is_safetensors(file) else "checkpoint"
    return kind, facts_of(file, saved), saved["state_dict"], [file]
