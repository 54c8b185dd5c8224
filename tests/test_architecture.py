"""Data flows one way: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
BASE = {"errors", "types", "files", "gradients", "locks", "options", "run_files", "progress"}
MODELS = {"encoders", "decoders", "search", "objectives", "metrics"}
DATA = {"text", "images", "corpora", "features"}
# room: the rooms it may import, besides itself.
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "files": {"errors", "locks"},
    "options": {"errors"},
    "gradients": set(),
    "locks": set(),
    "progress": set(),
    "run_files": {"errors", "files", "locks"},
    "seeding": set(),
    "devices": {"errors"},
    "text": BASE,
    "images": BASE | {"seeding"},
    "corpora": BASE | {"text", "images"},
    "encoders": BASE | {"seeding"},
    "features": BASE | {"corpora", "images"},
    "decoders": BASE | {"text"},
    "search": BASE | {"decoders", "seeding", "text"},
    "metrics": BASE | {"text"},
    "objectives": BASE | {"decoders", "search", "metrics", "text"},
    "batches": BASE | DATA,
    "training": BASE | DATA | MODELS | {"batches", "seeding", "devices"},
    "captioner": BASE | DATA | MODELS | {"seeding", "devices"},
    "evaluation": BASE | DATA | MODELS | {"captioner", "seeding"},
    "config": BASE
    | DATA
    | MODELS
    | {"batches", "training", "captioner", "evaluation"}
    | {"seeding", "devices"},
    "runs": BASE
    | DATA
    | MODELS
    | {"batches", "training", "captioner", "evaluation", "config"}
    | {"seeding", "devices", "reports"},
    "reports": BASE | {"images", "corpora", "features", "metrics", "evaluation"},
    "demo": BASE | {"images", "captioner"},
    "cli": BASE
    | DATA
    | {"encoders", "captioner", "evaluation", "config", "runs", "reports", "demo"},
}
# library: the rooms where it lives; files, where a path is named.
LIVES_IN = {
    "hydra": {"config", "runs", "hydra_plugins"},
    "omegaconf": {"config", "runs", "hydra_plugins"},
    "pytorch_lightning": {"config", "batches", "training", "runs"},
    "wandb": {"training/wandb_logger.py", "reports/wandb_workspace.py"},
    "optuna": {"runs/tuning/study.py", "runs/tuning/search.py", "runs/tuning/tune.py"},
    "rich": {"reports", "cli", "progress/terminal.py"},
}


def violations(src: Path) -> list[str]:
    """What in the tree breaks the table."""
    found = []
    for file in sorted(src.rglob("*.py")):
        relative = file.relative_to(src)
        inside = relative.parts[0] == "captionlab"
        room = relative.parts[1 if inside else 0].removesuffix(".py")
        if room == "__init__":
            continue
        for module in _imports(file):
            first, _, rest = module.partition(".")
            if first == "captionlab" and inside and rest:
                other = rest.split(".")[0]
                if other != room and other not in MAY_IMPORT[room]:
                    found.append(f"{relative}: {room} may not import {other}")
            allowed = LIVES_IN.get(first)
            path = "/".join(relative.parts[1:])
            if allowed is not None and room not in allowed and path not in allowed:
                found.append(f"{relative}: {first} lives elsewhere")
    return found


def _imports(file: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def test_every_import_goes_the_way_of_the_data() -> None:
    assert violations(SRC) == []


def test_every_room_is_in_the_table() -> None:
    rooms = {path.stem for path in (SRC / "captionlab").iterdir() if not path.name.startswith("_")}
    assert rooms - {"py", "conf"} == MAY_IMPORT.keys()  # py.typed, and the link to conf/


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("captionlab/text/a.py", "from captionlab.corpora import corpus"),
        ("captionlab/search/a.py", "import hydra.utils"),
        ("captionlab/runs/a.py", "import wandb"),
        ("captionlab/decoders/a.py", "import pytorch_lightning as pl"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, line: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(line)
    assert len(violations(tmp_path)) == 1
