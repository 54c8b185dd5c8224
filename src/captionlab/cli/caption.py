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
    from captionlab.captioner.load import load_run
    from captionlab.captioner.photos import caption_photos
    from captionlab.errors import printable
    from captionlab.reports.attention import draw_attention

    missing = [str(photo) for photo in options.photos if not photo.is_file()]
    if missing:
        raise DataError(f"there is no photo {', '.join(missing)}.")
    names = _picture_names(options.photos)
    captioner = load_run(options.run, options.set).captioner
    with_attention = options.attention is not None
    for photo in caption_photos(captioner, options.photos, options.n_best, with_attention):
        for text, log_probability in photo.captions:
            print(f"{photo.path}\t{log_probability:.2f}\t{printable(text)}")
        if photo.attention is not None:
            options.attention.mkdir(parents=True, exist_ok=True)
            picture = options.attention / names[photo.path]
            write_atomically(
                picture,
                draw_attention(
                    photo.pixels.permute(1, 2, 0).numpy(),
                    printable(photo.captions[0][0]),
                    [printable(word) for word in photo.words],
                    photo.attention.cpu().numpy(),
                    photo.grid_size,
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
