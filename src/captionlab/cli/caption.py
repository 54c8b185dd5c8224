"""`captionlab caption`: captions of any photos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from captionlab.cli.terminal import Commands, add_set
from captionlab.errors import DataError
from captionlab.files import write_atomically

_DESCRIPTION = """\
Caption photos, one line each: path, log-probability, caption.

example:
  captionlab caption runs/shapes/RUN a.jpg b.jpg --n-best 3 --attention maps"""


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "caption",
        help="caption any photos",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a finished run's folder, or a checkpoint")
    add("photos", nargs="+", type=Path, metavar="PHOTO")
    add("--n-best", type=int, default=1, metavar="N", help="the N best captions of a beam search")
    add("--attention", type=Path, metavar="FOLDER", help="draw attention maps into this folder")
    add_set(parser)


def run(options: argparse.Namespace) -> None:
    """Print the captions and, with `--attention`, draw the maps.

    Raises:
        DataError: if a photo does not exist.
    """
    from captionlab.captioner.photo_captioner import load
    from captionlab.errors import printable
    from captionlab.reports.attention import draw_attention

    missing = [str(photo) for photo in options.photos if not photo.is_file()]
    if missing:
        raise DataError(f"there is no photo {', '.join(missing)}.")
    names = _picture_names(options.photos)
    captioner = load(options.run, options.set)
    with_attention = options.attention is not None
    photos = captioner.stream(options.photos, n_best=options.n_best, attention=with_attention)
    for path, photo in zip(options.photos, photos, strict=True):
        for caption in photo.alternatives:
            print(f"{path}\t{caption.log_probability:.2f}\t{printable(caption.text)}")
        if photo.pixels is not None:
            options.attention.mkdir(parents=True, exist_ok=True)
            picture = options.attention / names[path]
            write_atomically(
                picture,
                draw_attention(
                    photo.pixels,
                    printable(photo.text),
                    [printable(word.text) for word in photo.words],
                    [word.attention for word in photo.words if word.attention is not None],
                ),
            )
            print(f"written: {picture}")


def _picture_names(photos: Sequence[Path]) -> dict[Path, str]:
    """A file name for each photo: its own, after as many of its folders as tell all apart."""
    paths = list(dict.fromkeys(photo.absolute() for photo in photos))
    for depth in range(max(len(path.parts) for path in paths)):
        for with_suffix in (False, True):
            ends = [path.name if with_suffix else path.stem for path in paths]
            folders = [path.parts[1:-1][::-1][:depth][::-1] for path in paths]
            names = ["-".join([*f, end]) for f, end in zip(folders, ends, strict=True)]
            if len({*names}) == len(names):
                known = dict(zip(paths, names, strict=True))
                return {photo: f"{known[photo.absolute()]}.png" for photo in photos}
    raise AssertionError("distinct paths have distinct names")
