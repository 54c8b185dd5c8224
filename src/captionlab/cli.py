"""`captionlab`: what one does with captions and runs once they are there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from captionlab.errors import CaptionLabError, ConfigError, DataError
from captionlab.files import write_atomically

_EVALUATE = """\
Score captions by the official metrics, with intervals over images.

TARGET is a run folder, a checkpoint, or a file of captions that any system wrote: COCO results
JSON, JSON lines with image_id and caption, or one caption per line with --images. Several targets
are compared by paired tests."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 1 after a mistake or a problem that was told in one line.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int | None = options.command(options)
    except CaptionLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="captionlab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    evaluate = commands.add_parser(
        "evaluate",
        help="score captions of a run, a checkpoint or a file",
        description=_EVALUATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.set_defaults(command=_evaluate)
    add = evaluate.add_argument
    add("targets", nargs="*", type=Path, metavar="TARGET")
    add(
        "--ensemble",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="score the captions that these finished runs write together",
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
    _add_set(evaluate)
    add("--out", type=Path, metavar="FOLDER", help="default: evaluation/ beside the target")

    caption = commands.add_parser("caption", help="write captions of any photos")
    caption.set_defaults(command=_caption)
    add = caption.add_argument
    add("run", type=Path, metavar="RUN", help="a finished run's folder, or a checkpoint")
    add("photos", nargs="+", type=Path, metavar="PHOTO")
    add("--n-best", type=int, default=1, metavar="N", help="the N best captions of a beam search")
    add("--attention", type=Path, metavar="FOLDER", help="draw there where the model looked")
    _add_set(caption)

    report = commands.add_parser("report", help="compare runs on disk")
    report.set_defaults(command=_report)
    report.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs, or of runs")
    report.add_argument("--out", type=Path, metavar="FOLDER", help="write the report there")

    _add_data(commands.add_parser("data", help="look into a data set, or download one"))
    _add_features(commands.add_parser("features", help="list, verify or remove encoded images"))
    return parser


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a run's configuration, such as search.beam_size=5",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check",
        help="what is in a data set, and what of it would stop or falsify a training",
        description="The exit status is 1 if a problem was found.",
    )
    check.set_defaults(command=_check_data)
    check.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    check.add_argument(
        "--photos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode all photos, and find those that are there twice (default: yes)",
    )
    check.add_argument("--out", type=Path, metavar="FOLDER", help="write report and pictures there")

    download = commands.add_parser(
        "download",
        help="fetch and unpack a data set; asked again after a break, it goes on",
        description="A NAME that is unknown gives the list of those that are.",
    )
    download.set_defaults(command=_download_data)
    download.add_argument("name", metavar="NAME", help="such as coco2017")
    download.add_argument("--to", type=Path, metavar="FOLDER", help="default: its own below data/")


def _add_features(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="encoded images on disk, complete or not")
    verify = commands.add_parser("verify", help="read every byte; the exit status tells")
    remove = commands.add_parser("remove", help="remove encoded images")
    remove.add_argument("name", metavar="NAME", help="as `captionlab features list` shows it")
    for each, command in (
        (listing, _list_features),
        (verify, _verify_features),
        (remove, _remove_features),
    ):
        each.set_defaults(command=command)
        each.add_argument(
            "--cache-dir", type=Path, default=Path("data"), metavar="FOLDER", help="default: data"
        )


def _evaluate(options: argparse.Namespace) -> None:
    from captionlab.evaluation.evaluate import Request, evaluate, evaluate_ensemble
    from captionlab.reports.evaluation import print_evaluations

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
        spice=options.spice,
        overrides=options.set,
    )
    systems = [evaluate(target, request) for target in options.targets]
    places = [target if target.is_dir() else target.parent for target in options.targets]
    if options.ensemble:
        systems.append(evaluate_ensemble(options.ensemble, request))
        names.append(systems[-1].name)
        places.append(options.ensemble[0])
    if len({tuple(row["image_id"] for row in each.rows) for each in systems}) != 1:
        raise ConfigError("targets have captions for different images; evaluate them one by one.")
    short = [target.stem.rsplit("-", 1)[0] for target in options.targets]
    for target, system, name in zip(options.targets, systems, short, strict=False):
        if target.is_dir() and short.count(name) == 1:
            system.name = name  # a run without its hash
    console = _console()
    differences = print_evaluations(systems, console)
    for place, name, system in zip(places, names, systems, strict=True):
        folder = options.out or place / "evaluation"
        written = system.write(folder / f"{name}-{system.data}")
        console.print(f"written: {written[0].parent}", soft_wrap=True, highlight=False)
    if len(systems) > 1 and options.out:
        write_atomically(options.out / "significance.csv", differences.csv())


def _caption(options: argparse.Namespace) -> None:
    from captionlab.captioner.captioner import TrainedModel, checkpoint_of
    from captionlab.captioner.photos import caption_photos
    from captionlab.reports.attention import draw_attention

    missing = [str(photo) for photo in options.photos if not photo.is_file()]
    if missing:
        raise DataError(f"there is no photo {', '.join(missing)}.")
    checkpoint = checkpoint_of(options.run) if options.run.is_dir() else options.run
    model = TrainedModel(checkpoint, options.set)
    with_attention = options.attention is not None
    for told in caption_photos(model, options.photos, options.n_best, with_attention):
        for text, log_probability in told.captions:
            print(f"{told.path}\t{log_probability:.2f}\t{text}")
        if told.attention is not None:
            options.attention.mkdir(parents=True, exist_ok=True)
            picture = options.attention / f"{told.path.stem}.png"
            write_atomically(
                picture,
                draw_attention(
                    told.pixels.permute(1, 2, 0).numpy(),
                    told.words,
                    told.attention.cpu().numpy(),
                    model.encoder.feature_shape.grid_size,
                ),
            )
            print(f"written: {picture}")


def _report(options: argparse.Namespace) -> None:
    from captionlab.reports import Comparison

    folders: list[Path] = []
    for folder in options.folders:
        inside = sorted(path.parent for path in folder.glob("*/status.json"))
        folders += [folder] if (folder / "status.json").exists() else inside
    if not folders:
        told = ", ".join(map(str, options.folders))
        raise ConfigError(f"there are no runs in {told}; name run folders, or folders of them.")
    comparison = Comparison.read(folders)
    comparison.print_table()
    if options.out:
        print("written: " + ", ".join(map(str, comparison.write(options.out))))


def _check_data(options: argparse.Namespace) -> int:
    from captionlab.corpora import read_corpus
    from captionlab.corpora.check import check_corpus
    from captionlab.encoders import shipped_encoders
    from captionlab.images.photos import num_cores
    from captionlab.reports.data_check import print_check, write_check
    from captionlab.text import PTBTokenizer

    check = check_corpus(
        read_corpus(options.root),
        PTBTokenizer(),
        {name: encoder.feature_shape for name, encoder in shipped_encoders()},
        photos=options.photos,
        num_workers=num_cores(),
    )
    print_check(check, _console())
    if options.out:
        print("written: " + ", ".join(map(str, write_check(check, options.out))))
    return 1 if check.problems else 0


def _download_data(options: argparse.Namespace) -> None:
    from captionlab.corpora.download import download, find_source

    source = find_source(options.name)
    folder = options.to or Path("data") / source.folder
    print(f"{source.title}, into {folder}\nlicence: {source.licence}")
    for line in download(source.files, folder):
        print(line)


def _list_features(options: argparse.Namespace) -> None:
    from captionlab.features.inventory import list_stores
    from captionlab.reports.stored_features import print_stores

    root = options.cache_dir / "features"
    print_stores(root, list_stores(root), _console())


def _verify_features(options: argparse.Namespace) -> int:
    from captionlab.features.inventory import list_stores, verify_store

    root = options.cache_dir / "features"
    wrong = 0
    for store in list_stores(root):
        problem = verify_store(store)
        so_far = f" so far, {store.num_encoded} of {store.num_images} images"
        whole = "whole" if store.complete else "whole" + so_far
        print(f"{store.folder.name}: {problem or whole}")
        wrong += problem is not None
    if wrong:
        print(f"remove them by `captionlab features remove NAME --cache-dir {options.cache_dir}`")
    return 1 if wrong else 0


def _remove_features(options: argparse.Namespace) -> None:
    from captionlab.features.inventory import remove_store

    removed = remove_store(options.cache_dir / "features", options.name)
    print(f"removed: {removed.folder} ({removed.num_bytes / 1e9:.2f} GB)")


def _console() -> Console:
    """As wide as the terminal; a pipe gets everything."""
    return Console(width=None if Console().is_terminal else 160, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
