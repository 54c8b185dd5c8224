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
    parser.add_argument(
        "--photos",
        type=int,
        default=1000,
        metavar="N",
        help="the page shows at most N photos of a data set (default: %(default)s)",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="save the attention maps of each run for the page (attention.jsonl in its folder)",
    )


def run(options: argparse.Namespace) -> None:
    """Print the comparison and, with `--out`, write it.

    Raises:
        ConfigError: if there are no runs in the folders, or the number of photos is negative.
    """
    from captionlab.reports import Comparison
    from captionlab.run_files import find_all

    if options.photos < 0:
        raise ConfigError(f"--photos must be 0 or more, found {options.photos}.")
    comparisons = Comparison.read_each(find_all(options.folders))
    for comparison in comparisons:
        if options.attention:
            for finished in (run for group in comparison.groups for run in group.runs):
                _record_attention(finished.folder)
        comparison.print_table()
        if options.out:
            out = options.out / comparison.data if len(comparisons) > 1 else options.out
            print("written: " + ", ".join(map(str, comparison.write(out, options.photos))))


def _record_attention(folder: Path) -> None:
    """Write the attention maps of a run's test captions; nothing if its decoder does not attend."""
    from captionlab.captioner.attention import caption_attention
    from captionlab.captioner.load import load_run
    from captionlab.evaluation.result import read_predictions
    from captionlab.features.source import EncoderFeatures
    from captionlab.reports.page import write_attention
    from captionlab.run_files import RunFiles

    files = RunFiles(folder)
    run = load_run(folder)
    source = run.captioner.source
    if not run.captioner.decoder.attends:
        return
    assert isinstance(source, EncoderFeatures)
    if not source.places_known:
        print(f"{folder}: no attention map, since its features were made elsewhere")
        return
    captions = {p.image_id: p.caption for p in read_predictions(files.predictions_path)}
    maps = caption_attention(run.captioner, run.corpus, captions)
    seen = source.preprocessing.image_size / source.preprocessing.resize_size
    arrays = ((image_id, weights.numpy()) for image_id, weights in maps)
    grid_size = source.feature_shape.grid_size
    write_attention(files.attention_path, captions, arrays, grid_size, seen)
