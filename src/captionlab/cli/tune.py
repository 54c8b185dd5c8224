"""`captionlab tune`: search for the options that validate best."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence

from captionlab.errors import ConfigError

_DESCRIPTION = """\
Search for the options that validate best. Each trial is a run folder; the same command again
resumes the search, and several commands at once share it. No trial is scored on the test images
but the best one, at the end."""
_EXAMPLES = """\
The space is written as in Hydra's sweeps:
  decoder=lstm,gru                                   one of these, as choice(lstm,gru)
  decoder.num_layers='range(1,4)'                    1, 2 or 3
  decoder.dropout='interval(0, 0.5)'                 any number
  optimizer.lr='tag(log, interval(1e-4, 1e-2))'      by its logarithm
  decoder.hidden_dim='int(interval(64, 512))'        a whole number
What has one value is fixed, such as data=flickr8k data.root=FOLDER name=my-search.

example:
  captionlab tune --trials 30 decoder=lstm,gru 'optimizer.lr=tag(log, interval(1e-4, 1e-2))'"""


def run(arguments: Sequence[str]) -> None:
    """Search.

    Args:
        arguments: flags and overrides in any order.

    Raises:
        CaptionLabError: in one or two lines.
    """
    options = _parser().parse_intermixed_args(arguments)
    if options.multirun:
        raise ConfigError(
            "-m belongs to `captionlab train`, which runs all combinations; `captionlab tune` "
            "samples them: leave -m out."
        )
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "`captionlab tune` needs the package optuna, which is not installed: "
            "pip install 'captionlab[tune]'."
        )
    from captionlab.runs.stopping import catch_signals

    catch_signals()
    from captionlab.cli.terminal import open_console
    from captionlab.runs.tuning.tune import tune  # brings Hydra, Optuna and torch

    tune(
        options.overrides,
        lambda table: table.print(open_console()),
        trials=options.trials,
        workers=options.workers,
        seed=options.seed,
        prune=options.pruning,
        config_dir=options.config_dir,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captionlab tune",
        usage="%(prog)s [FLAG ...] SPACE ... [GROUP=OPTION ...] [KEY=VALUE ...]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="SPACE", help="see below")
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        help="trials of the search, over all attempts (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="trials at a time (default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the trials' draws; seed=N seeds runs"
    )
    parser.add_argument(
        "--no-pruning",
        dest="pruning",
        action="store_false",
        help="let trials finish that fall behind the median of the others",
    )
    parser.add_argument(
        "--config-dir", metavar="DIR", help="options of your own, as DIR/GROUP/OPTION.yaml"
    )
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    return parser
