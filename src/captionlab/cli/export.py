"""`captionlab export`: a finished run as one file, or as ONNX, with a model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from captionlab.cli.terminal import Commands, add_set
from captionlab.errors import ConfigError, StorageError
from captionlab.files import is_safetensors, write_atomically

_DESCRIPTION = """\
Write a finished run into one safetensors file, which `captionlab caption`, `evaluate` and
`captionlab.load` take like the run itself; or, with --format onnx, into a folder whose caption.py
needs nothing but numpy, onnxruntime and Pillow.

examples:
  captionlab export runs/flickr8k/RUN model.safetensors --with-encoder --card model.md
  captionlab export runs/flickr8k/RUN model --format onnx && python model/caption.py photo.jpg"""


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "export",
        help="a finished run as one file, or as ONNX",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("run", nargs="+", type=Path, metavar="RUN", help="a run's folder, or a checkpoint")
    add("path", type=Path, metavar="FILE", help="the file, or with --format onnx the folder")
    add(
        "--format",
        choices=("safetensors", "onnx"),
        default="safetensors",
        help="a file that captionlab loads (default: safetensors), or a folder for onnxruntime",
    )
    add(
        "--with-encoder",
        action="store_true",
        help="put the weights of a frozen encoder into the file, too; onnx always has them",
    )
    add("--card", type=Path, metavar="FILE", help="write a model card; onnx: README.md in FILE")
    add_set(parser)


def run(options: argparse.Namespace) -> None:
    """Write the file or the folder, and the card.

    Raises:
        ConfigError: for several runs, or options that do not go together.
    """
    from captionlab.captioner.export import encoder_of, export, only_run, read_facts, with_weights
    from captionlab.captioner.load import load_run, override
    from captionlab.errors import printable
    from captionlab.reports.model_facts import weights_text

    target = only_run(options.run)
    is_onnx = options.format == "onnx"
    card: Path | None = options.card or (options.path / "README.md" if is_onnx else None)
    for path in (card, None if is_onnx else options.path):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file, such as {path}/model.safetensors.")
    if not is_onnx and options.path.suffix != ".safetensors":
        raise ConfigError(
            f"{options.path} is no name of a safetensors file; end it in .safetensors, or export a "
            "folder by --format onnx."
        )
    _refuse_to_replace(options.path, card)
    if is_onnx:
        from captionlab.captioner.onnx_export import export_onnx

        loaded = load_run(target, options.set)
        encoder = encoder_of(loaded.captioner, with_weights=False)
        facts = with_weights(read_facts(target), encoder, included=True)
        facts["features"].pop("calibration", None)  # tensors: the encoder's graph has used them
        if options.set:  # the scores are not those of the changed run
            facts = {**facts, "config": override(facts["config"], options.set), "result": None}
        written = export_onnx(loaded.captioner, options.path, facts)
        use = ["pip install numpy onnxruntime pillow", "python caption.py photo.jpg"]
    else:
        if options.set:
            raise ConfigError("--set needs --format onnx; the file holds the run as it is.")
        facts = export(target, options.path, options.with_encoder)
        written = [options.path]
        install = "python -m pip install PATH/TO/captionlab  # a checkout of its repository"
        use = [install, f"captionlab caption photo.jpg --run {options.path.name}"]
    print(f"encoder weights: {printable(weights_text(facts))}")
    for path in written:
        print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if card is not None:
        _write_card(card, target, facts, use)
        print(f"written: {card}")


def _refuse_to_replace(path: Path, card: Path | None) -> None:
    """Refuse files that something else wrote."""
    from captionlab.reports.model_card import is_model_card

    if card is not None and card.resolve() == path.resolve():
        raise ConfigError(f"--card {card} is the file of the model, too; name another.")
    if path.is_file() and not is_safetensors(path):
        raise ConfigError(f"{path} is a file that no export wrote; name another, or remove it.")
    if card is not None and card.exists() and not is_model_card(card):
        raise ConfigError(
            f"{card} is a file that no export wrote; name another by --card, or remove it."
        )


def _write_card(path: Path, target: Path, facts: dict[str, Any], use: list[str]) -> None:
    from captionlab.evaluation.result import Prediction, Result, read_predictions
    from captionlab.reports.model_card import model_card
    from captionlab.run_files import RunFiles

    result = Result.from_json(facts["result"], target) if facts.get("result") else None
    predictions: list[Prediction] = []
    folder = RunFiles(target if target.is_dir() else target.parent.parent)
    is_of_run = target in (folder.path, folder.best_checkpoint)
    if result is not None and is_of_run and folder.predictions_path.exists():
        predictions = read_predictions(folder.predictions_path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, model_card(facts, result, predictions, use))
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}).") from error
