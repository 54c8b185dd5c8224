"""`captionlab demo`: a page on which to try trained models."""

from __future__ import annotations

import argparse

from captionlab.cli.terminal import Commands, add_set
from captionlab.errors import ConfigError

_DESCRIPTION = """\
Serve a page on which to drop a photo and see what one or several models say about it, until Ctrl-C.

example:
  captionlab demo --run runs/shapes/RUN --run runs/shapes/OTHER"""


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "demo",
        help="try models on photos, in the browser",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add(
        "--run",
        action="append",
        required=True,
        dest="runs",
        metavar="RUN",
        help="a finished run, a checkpoint, an exported file, or a folder of runs, whose best is "
        "taken; several are shown side by side",
    )
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, which this machine alone can reach)",
    )
    add("--port", type=int, default=7860, help="default: %(default)s; 0 for any that is free")
    add_set(parser)


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ConfigError: if a model has no encoder, or the port cannot be used.
        RunError: if there is no such run.
    """
    from captionlab import load
    from captionlab.demo import DemoModel, DemoServer, read_examples

    if not 0 <= options.port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, found {options.port}.")
    captioners = [load(target, options.set) for target in options.runs]
    models = [DemoModel.of(captioner) for captioner in captioners]
    examples = next(filter(None, (read_examples(c.target) for c in captioners)), [])
    with DemoServer(models, examples, options.host, options.port) as server:
        others = "" if server.is_local else ", for everyone who can reach this machine"
        try:
            print(f"demo at {server.address}{others}; Ctrl-C ends it", flush=True)
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print("\ndemo ended")
