"""`captionlab`: train captioners, and use, score and compare the trained models."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Sequence

from captionlab import __version__
from captionlab.cli import (
    caption,
    data,
    demo,
    evaluate,
    export,
    features,
    inspect,
    report,
    runs,
    tune,
    wandb,
)
from captionlab.errors import CaptionLabError, ConfigError, out_of_memory
from captionlab.progress.terminal import shown_on_terminal

_EXAMPLES = """\
examples:
  captionlab train -m encoder=vgg,resnet decoder=lstm,gru  # four runs, compared
  captionlab train --help                                  # every option
  captionlab data check MY_PHOTOS                          # before you train
  captionlab tune 'decoder.dropout=interval(0, 0.5)'       # search a range
  captionlab caption photo.jpg --run runs/shapes           # by its best run
  captionlab demo --run runs/shapes                        # in a browser
  captionlab evaluate RUN a.json --data FOLDER             # other systems too
  captionlab report runs/shapes runs/other --out comparison
  captionlab runs list runs/shapes                         # state and scores
  captionlab export RUN model.safetensors --with-encoder   # one file

`captionlab COMMAND --help` shows the arguments of one command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; the process's own unless given.

    Returns:
        The exit status: 0; 1 after an error, which is printed in one line; 130 after Ctrl-C; 141
            where nobody reads the output any more.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["train"]:  # its arguments are Hydra's, and Hydra parses them
        from captionlab.cli import train

        return train.run(arguments[1:])
    try:
        if arguments[:1] == ["tune"]:  # its overrides and flags may be mixed
            tune.run(arguments[1:])
            return 0
        if any(not word or re.fullmatch("--[a-z-]+=", word) for word in arguments):
            raise ConfigError(
                "an argument is empty, perhaps a variable of the shell that is not set; name what "
                "you mean, . for this folder."
            )
        options = _parser().parse_args(arguments)
        with shown_on_terminal():
            status: int | None = options.command(options)
            sys.stdout.flush()
    except CaptionLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # what read our output has ended, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"error: the output cannot be written ({error.strerror}).", file=sys.stderr)
            return 1
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        message = out_of_memory(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captionlab",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"captionlab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("train", help="train, test and score one run, or a sweep with -m")
    commands.add_parser("tune", help="search for the options that validate best")
    for command in (caption, demo, evaluate, report, runs, export, inspect, data, features, wandb):
        command.add_parser(commands)
    return parser
