"""`captionlab evaluate`: score runs, checkpoints, or captions that any system wrote."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from captionlab.cli.terminal import Commands, add_set, open_console
from captionlab.errors import ConfigError
from captionlab.files import write_atomically

_DESCRIPTION = """\
Score captions by the official metrics, with intervals over images.

TARGET is a run folder, a checkpoint, or a file of captions that any system wrote: COCO results
JSON, JSON lines with image_id and caption, or one caption per line with --images. Several targets
are compared by paired tests.

examples:
  captionlab evaluate RUN --split val --samples 5
  captionlab evaluate a.json b.jsonl --data /path/to/Flickr8k
  captionlab evaluate --ensemble RUN RUN"""


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="score captions of a run, a checkpoint or a file",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("targets", nargs="*", type=Path, metavar="TARGET")
    add(
        "--ensemble",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="score the captions of these finished runs as one ensemble",
    )
    add("--data", type=Path, metavar="ROOT", help="data set; a run's own unless given")
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add("--images", type=Path, metavar="FILE", help="images of a text file, one per line")
    add("--subset", action="store_true", help="score only the images that have captions")
    add(
        "--tokenizer",
        choices=("stanford", "python"),
        default="stanford",
        help="python needs no Java; its scores have names of their own (default: stanford)",
    )
    add("--samples", type=int, default=0, metavar="N", help="draw N captions for diversity")
    add("--retrieval", type=int, default=0, metavar="N", help="find images among N by caption")
    add("--spice", type=Path, metavar="FOLDER", help="score SPICE by the CoreNLP jars in FOLDER")
    add_set(parser)
    add("--out", type=Path, metavar="FOLDER", help="default: evaluation/ beside the target")


def run(options: argparse.Namespace) -> None:
    """Score, print, compare and write.

    Raises:
        ConfigError: if the targets cannot be compared.
    """
    from captionlab.evaluation.evaluate import evaluate, evaluate_ensemble
    from captionlab.evaluation.request import Request
    from captionlab.reports.evaluation import print_evaluations, write_evaluation

    names = [target.stem for target in options.targets]
    if len(set(names)) != len(names):
        raise ConfigError("targets must have different names, since their files are named so.")
    if not names and not options.ensemble:
        raise ConfigError("there is nothing to evaluate; name a TARGET, or --ensemble RUN RUN.")
    request = Request(
        data=options.data,
        split=options.split,
        image_list=options.images,
        subset=options.subset,
        tokenizer=options.tokenizer,
        num_samples=options.samples,
        pool_size=options.retrieval,
        jar_folder=options.spice,
        overrides=options.set,
    )
    systems = [evaluate(target, request) for target in options.targets]
    places = [target if target.is_dir() else target.parent for target in options.targets]
    if options.ensemble:
        systems.append(evaluate_ensemble(options.ensemble, request))
        names.append(systems[-1].name)
        places.append(options.ensemble[0])
    if len({tuple(p.image_id for p in system.predictions) for system in systems}) != 1:
        raise ConfigError("targets have captions for different images; evaluate them one by one.")
    short = [target.stem.rsplit("-", 1)[0] for target in options.targets]
    for i, (target, name) in enumerate(zip(options.targets, short, strict=True)):
        if target.is_dir() and short.count(name) == 1:
            systems[i] = replace(systems[i], name=name)  # a run without its hash
    console = open_console()
    differences = print_evaluations(systems, console)
    for place, name, system in zip(places, names, systems, strict=True):
        folder = options.out or place / "evaluation"
        written = write_evaluation(system, folder / f"{name}-{system.data}")
        console.print(f"written: {written[0].parent}", soft_wrap=True, highlight=False)
    if len(systems) > 1 and options.out:
        write_atomically(options.out / "significance.csv", differences.every_pair().csv())
