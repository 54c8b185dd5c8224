"""`captionlab evaluate`: score runs, checkpoints, or captions that any system wrote."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path

from captionlab.cli.terminal import Commands, add_set, open_console
from captionlab.errors import ConfigError
from captionlab.files import write_atomically

_DESCRIPTION = """\
Score captions by the official metrics, with intervals over images.

TARGET is a run folder, a checkpoint, a file of captionlab export, or a file of captions that any
system wrote: COCO results JSON, JSON lines with image_id and caption, or one caption per line with
--images. Several targets are compared by paired tests.

examples:
  captionlab evaluate RUN --split val --samples 5
  captionlab evaluate a.json b.jsonl --data /path/to/Flickr8k
  captionlab evaluate --group init=init_1.txt,init_2.txt --group merge=merge_1.txt,merge_2.txt \\
      --images test.txt --data /path/to/Flickr8k
  captionlab evaluate --ensemble RUN RUN"""


_NAME_IMAGES = (".json", ".jsonl", ".ckpt", ".safetensors")  # suffixes of what needs no --images


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "evaluate",
        usage="%(prog)s TARGET [TARGET ...] [options]",
        help="score captions of a run, a checkpoint or a file",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add(
        "targets",
        nargs="*",
        type=Path,
        metavar="TARGET",
        help="a run's folder, a checkpoint, an exported file, or a file of captions",
    )
    add(
        "--ensemble",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="score the captions of these finished runs as one ensemble",
    )
    add(
        "--group",
        action="append",
        default=[],
        metavar="NAME=FILE,FILE",
        help="captions of one system trained from several seeds, averaged and tested over seeds",
    )
    add("--data", type=Path, metavar="ROOT", help="data set; a run's own unless given")
    add(
        "--split-seed",
        type=int,
        metavar="N",
        help="seed of ROOT's splits where its files give none (default: the run's; 0 for a file)",
    )
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add("--images", type=Path, metavar="FILE", help="names the image of each line of a text file")
    add("--subset", action="store_true", help="score only the images that have captions")
    add(
        "--tokenizer",
        choices=("stanford", "python"),
        default="stanford",
        help="python needs no Java; its scores have names of their own (default: stanford)",
    )
    add(
        "--references",
        choices=("official", "cleaned"),
        default="official",
        help="cleaned drops punctuation and hyphens of captions and references, as several papers "
        "did; its scores have names of their own (default: official)",
    )
    add("--samples", type=int, default=0, metavar="N", help="draw N captions for diversity")
    add("--retrieval", type=int, default=0, metavar="N", help="image retrieval among N images")
    add("--spice", type=Path, metavar="FOLDER", help="score SPICE by the CoreNLP jars in FOLDER")
    add_set(parser)
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="default: evaluation/ in a run's folder or beside a file",
    )


def run(options: argparse.Namespace) -> None:
    """Score, print, compare and write.

    Raises:
        ConfigError: if the targets cannot be compared.
    """
    from captionlab.evaluation.evaluate import evaluate, evaluate_ensemble
    from captionlab.evaluation.request import Request
    from captionlab.reports.evaluation import System, print_evaluations, write_evaluation

    targets = [Path(os.path.abspath(path)) for path in options.targets]  # `.` has no name
    groups = _groups(targets, options.group)
    request = Request(
        data=options.data,
        split_seed=options.split_seed,
        split=options.split,
        image_list=options.images,
        subset=options.subset,
        tokenizer=options.tokenizer,
        num_samples=options.samples,
        pool_size=options.retrieval,
        jar_folder=options.spice,
        cleaned=options.references == "cleaned",
        overrides=options.set,
    )
    if not groups and not options.ensemble:
        raise ConfigError("there is nothing to evaluate; name a TARGET, or --ensemble RUN RUN.")
    paths = [path for members in groups.values() for path in members.values()]
    if options.images and all(path.is_dir() or path.suffix in _NAME_IMAGES for path in paths):
        raise ConfigError(
            "--images names the photos of a text file's lines, and there is none; leave it out "
            "(--subset scores the images that have captions)."
        )
    systems: list[System] = []
    folders: list[Path] = []
    for name, members in groups.items():
        runs = [replace(evaluate(path, request), name=own) for own, path in members.items()]
        systems.append(System(name, runs))
        folders += map(_folder, members.values())
    if options.ensemble:
        ensemble = evaluate_ensemble(options.ensemble, request)
        systems.append(System(ensemble.name, [ensemble]))
        folders.append(_folder(options.ensemble[0]))
    evaluations = [evaluation for system in systems for evaluation in system.runs]
    if len({tuple(p.image_id for p in one.predictions) for one in evaluations}) != 1:
        raise ConfigError("targets have captions for different images; evaluate them one by one.")
    console = open_console()
    differences = print_evaluations(systems, console)
    for place, evaluation in zip(folders, evaluations, strict=True):
        folder = options.out or place / "evaluation"
        name = "-".join([evaluation.name, evaluation.data, *_asked(options)])
        written = write_evaluation(evaluation, folder / name)
        console.print(f"written: {written[0].parent}", soft_wrap=True, highlight=False)
    if len(systems) > 1 and options.out:
        write_atomically(options.out / "significance.csv", differences.every_pair().csv())


def _folder(target: Path) -> Path:
    """The folder of a run, or the one that holds the file; `evaluation/` is made in it."""
    return target if target.is_dir() else target.parent


def _asked(options: argparse.Namespace) -> list[str]:
    """What scores depend on besides system and data, for the name of their folder."""
    asked = [f"tokenizer={options.tokenizer}"] if options.tokenizer != "stanford" else []
    asked += [f"samples={options.samples}"] if options.samples else []
    asked += [f"retrieval={options.retrieval}"] if options.retrieval else []
    return [re.sub(r"[^\w.,=+-]", "_", word) for word in (*asked, *options.set)]


def _name(target: Path) -> str:
    """A folder's name, or a file's without its suffix."""
    return target.name if target.is_dir() else target.stem


def _groups(targets: list[Path], named: list[str]) -> dict[str, dict[str, Path]]:
    """Systems by name, each of one file or several, by the names that their files get.

    Raises:
        ConfigError: if a group cannot be read, or names are not distinct.
    """
    whole = [_name(path) for path in targets]
    short = [
        name.rsplit("-", 1)[0] if path.is_dir() else name
        for name, path in zip(whole, targets, strict=True)
    ]
    names = [s if short.count(s) == 1 else w for s, w in zip(short, whole, strict=True)]
    members = list(zip(names, whole, targets, strict=True))
    systems = list(names)
    for text in named:
        name, _, paths = text.partition("=")
        if not name or not all(paths.split(",")):
            raise ConfigError(
                f"--group {text}: expected NAME=FILE,FILE,... with at least one file."
            )
        members += [(name, f"{name}-{_name(Path(path))}", Path(path)) for path in paths.split(",")]
        systems.append(name)
    own = [own for _, own, _ in members]
    same = [str(path) for _, name, path in members if own.count(name) > 1]
    same = same or [name for name in systems if systems.count(name) > 1]
    if same:
        raise ConfigError(
            "targets and groups must have different names, since tables and files are named so; "
            f"these would be named alike: {', '.join(same)}. Rename one."
        )
    groups: dict[str, dict[str, Path]] = {}
    for name, own_name, path in members:
        groups.setdefault(name, {})[own_name] = path
    return groups
