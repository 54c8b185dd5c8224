"""`captionlab caption`: captions of any photos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from captionlab.cli.caption_output import FORMATS, open_output
from captionlab.cli.terminal import Commands, add_set
from captionlab.errors import ConfigError, printable
from captionlab.files import write_atomically
from captionlab.progress import bar
from captionlab.run_files import RunFiles

if TYPE_CHECKING:
    from captionlab.captioner.photo_caption import PhotoCaption
    from captionlab.captioner.photo_captioner import PhotoCaptioner

_METHODS = ("attention", "gradients", "occlusion")
_FEW = 64  # photos for which no worker processes are started
_DESCRIPTION = """\
Caption photos, one line each: path, log-probability, caption. [cut] ends a caption that the search
stopped at its longest length. Photos that cannot be read are listed at the end.

examples:
  captionlab caption photo.jpg --run runs/shapes                 # the best run of a folder
  captionlab caption holiday '*.png' https://example.org/a.jpg --run RUN --out captions.html
  captionlab caption photo.jpg --run RUN --n-best 3 --explain maps"""


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
    add(
        "what",
        nargs="+",
        metavar="WHAT",
        help="photos, folders, patterns in quotes, or http(s) addresses",
    )
    add(
        "--run",
        type=Path,
        dest="model",
        metavar="RUN",
        help="a finished run's folder, a checkpoint, an exported file, or a folder of runs, of "
        "which the one with the best validation score is taken",
    )
    add("--out", type=Path, metavar="FILE", help="a file ending in .jsonl, .csv or .html")
    add("--format", choices=FORMATS, help="format of the standard output (default: text)")
    add("--n-best", type=int, default=1, metavar="N", help="the N best captions of a beam search")
    add(
        "--explain",
        "--attention",
        type=Path,
        metavar="FOLDER",
        help="draw what each word depends on into this folder",
    )
    add(
        "--method",
        choices=_METHODS,
        help="what --explain draws (default: attention, or occlusion for models without it)",
    )
    add_set(parser)


def run(options: argparse.Namespace) -> int:
    """Write the captions and, with `--explain`, draw the pictures; 1 if a photo was unreadable.

    Raises:
        CaptionLabError: if there are no photos, or the model cannot be loaded.
    """
    if options.model is None:
        raise ConfigError(_without_run(options.what))
    if options.method is not None and options.explain is None:
        raise ConfigError("--method says how --explain draws; add --explain FOLDER.")
    from captionlab.captioner.photo_captioner import load
    from captionlab.captioner.photo_input import find_photos

    photos = list(dict.fromkeys(photo for what in options.what for photo in find_photos(what)))
    captioner = load(options.model, options.set)
    if captioner.target != options.model:
        print(f"the best run: {captioner.target}", file=sys.stderr)
    method = None
    names = {}
    if options.explain is not None:
        method = options.method or ("attention" if captioner.attends else "occlusion")
        names = _picture_names(list(map(Path, photos)))
    unreadable = []
    with ExitStack() as stack:
        write = stack.enter_context(
            open_output(options.out, options.format, f"Captions by {captioner.target.name}")
        )
        for caption in _captions(captioner, list(map(str, photos)), method, options):
            if caption.error is not None:
                unreadable.append(caption.error)
            write(caption)
            if method is not None and caption.error is None:
                _draw(options.explain / names[Path(str(caption.source))], caption, method)
    for path in (options.out, options.explain):
        if path is not None:
            print(f"written: {path}", file=sys.stderr)
    for error in unreadable:
        print(f"error: {printable(error)}", file=sys.stderr)
    return 1 if unreadable else 0


def _without_run(what: Sequence[str]) -> str:
    first, *photos = what
    is_model = RunFiles(Path(first)).status_path.exists() or first.endswith(".ckpt")
    run = first if is_model else "RUN"
    shown = " ".join(photos if is_model and photos else what)
    return f"--run is missing; name the run: captionlab caption {shown} --run {run}"


def _captions(
    captioner: PhotoCaptioner,
    photos: Sequence[str],
    method: str | None,
    options: argparse.Namespace,
) -> Iterator[PhotoCaption]:
    """With a progress bar, unless the captions themselves go to the terminal."""
    kind = f".{options.format}" if options.out is None else options.out.suffix
    captions = captioner.stream(
        photos,
        n_best=options.n_best,
        words=kind == ".jsonl",
        attention=method == "attention",
        explain=None if method == "attention" else method,  # type: ignore[arg-type]
        pixels=kind == ".html",
        on_error="return",
        num_workers=captioner.num_workers if len(photos) > _FEW else 0,
    )
    if options.out is None and sys.stdout.isatty():
        yield from captions
        return
    with bar("captioning", len(photos), "photos") as shown:
        for caption in captions:
            yield caption
            shown.advance()


def _draw(picture: Path, caption: PhotoCaption, method: str) -> None:
    from captionlab.reports.attention import draw_attention

    assert caption.pixels is not None
    maps = [w.attention if method == "attention" else w.saliency for w in caption.words]
    picture.parent.mkdir(parents=True, exist_ok=True)
    content = draw_attention(
        caption.pixels,
        printable(caption.text),
        [printable(word.text) for word in caption.words],
        [weights for weights in maps if weights is not None],
        method,
    )
    write_atomically(picture, content)


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
