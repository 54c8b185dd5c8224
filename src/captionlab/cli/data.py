"""`captionlab data`: check a data set, or download one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import captionlab
from captionlab.cli.terminal import Commands, open_console

if TYPE_CHECKING:
    from captionlab.types import FeatureShape

_FEW = 200  # photos are decoded before worker processes have started
CONF = Path(captionlab.__file__).parent / "conf" / "encoder"


def add_parser(commands: Commands) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("data", help="check a data set, or download one")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")

    check = parts.add_parser(
        "check",
        help="what is in a data set, and which problems would stop or bias a training",
        description="The exit status is 1 if a problem was found.",
    )
    check.set_defaults(command=run_check)
    check.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    check.add_argument(
        "--photos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode all photos, and look for duplicates (default: yes)",
    )
    check.add_argument(
        "--encoders",
        nargs="*",
        metavar="NAME",
        help="print the disk space of the features of these encoders, or of all if none is named",
    )
    check.add_argument("--out", type=Path, metavar="FOLDER", help="write report and pictures there")

    download = parts.add_parser(
        "download",
        help="download and unpack a data set; run it again to resume",
        description="An unknown NAME lists the known ones.",
    )
    download.set_defaults(command=run_download)
    download.add_argument("name", metavar="NAME", help="such as coco2017")
    download.add_argument("--to", type=Path, metavar="FOLDER", help="default: its own below data/")


def run_check(options: argparse.Namespace) -> int:
    """Print what is in the data set; 1 if there is a problem."""
    from captionlab.corpora import read_corpus
    from captionlab.corpora.check import check_corpus
    from captionlab.images.photos import num_cores
    from captionlab.reports.data_check import print_check, write_check
    from captionlab.text import PTBTokenizer

    corpus = read_corpus(options.root)
    check = check_corpus(
        corpus,
        PTBTokenizer(),
        {} if options.encoders is None else _feature_shapes(options.encoders),
        photos=options.photos,
        num_workers=num_cores() if len(corpus.images) > _FEW else 0,
    )
    print_check(check, open_console())
    if options.out:
        print("written: " + ", ".join(map(str, write_check(check, options.out))))
    return 1 if check.problems else 0


def _feature_shapes(names: list[str]) -> dict[str, FeatureShape]:
    """Of these encoders; of all where none is named."""
    from captionlab.encoders import list_encoders, read_encoder  # brings torch
    from captionlab.errors import ConfigError

    known = list_encoders(CONF)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"encoder {unknown[0]} is unknown; known: {', '.join(known)}.")
    return {name: read_encoder(CONF, name).feature_shape for name in names or known}


def run_download(options: argparse.Namespace) -> None:
    """Download the data set, and print each step."""
    from captionlab.corpora.download import download, find_source

    source = find_source(options.name)
    folder = options.to or Path("data") / source.folder
    print(f"{source.title}, into {folder}\nlicence: {source.licence}")
    for line in download(source.files, folder):
        print(line)
