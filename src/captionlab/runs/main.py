"""The entry: `captionlab train OVERRIDES` or `python run.py OVERRIDES`, with -m for a sweep."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import hydra._internal.utils as hydra_utils
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import (
    _run_hydra,
    create_automatic_config_search_path,
    get_args_parser,
)
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import captionlab
from captionlab.config.overrides import CONFIG_NAME, check_overrides
from captionlab.errors import CaptionLabError, ConfigError, out_of_memory
from captionlab.evaluation.result import Result
from captionlab.files import is_full
from captionlab.runs.command import own_command
from captionlab.runs.folder import RunFolder, concerns, unwritable
from captionlab.runs.identity import identity, register_resolver
from captionlab.runs.stopping import die_with_parent

log = logging.getLogger(__name__)
_CONF = str(Path(captionlab.__file__).parent / "conf")

register_resolver()
OmegaConf.register_new_resolver(
    "option_groups", lambda *, _root_: _option_groups(_root_), replace=True, use_cache=False
)


def run(config: DictConfig) -> float | None:
    """Load the result of a finished run, or train the run; the task that Hydra calls.

    Returns:
        The best validation score, for a sweeper that optimises it; None where the run failed
        in a sweep, which its status tells and the sweep reports.
    """
    from captionlab.config.checks import check  # brings torch
    from captionlab.runs.ranks import is_leader

    hydra_config = HydraConfig.get()
    is_in_sweep = hydra_config.mode == RunMode.MULTIRUN
    folder = RunFolder(Path(hydra_config.runtime.output_dir))
    try:
        values = check(config)
        leads = is_leader(values["trainer"])
        folder.check_identity(identity(values))
        with folder.lock() if leads else nullcontext():
            result = folder.read_result()
            if result is not None:
                log.info("%s: %s", folder.cached_message, folder.path)
            else:  # an older state goes before Lightning is imported, which takes seconds
                with folder.running() if leads else nullcontext():
                    result = _train(values, folder)
    except CaptionLabError as error:
        _fail(f"error: {error}", folder, is_in_sweep)
        return None
    except Exception as error:
        message = _of_the_machine(error, folder.path)
        if message is None:
            log.exception(
                "%s failed; this is a fault of captionlab or of its libraries", folder.path
            )
        _fail("" if message is None else f"error: {message}", folder, is_in_sweep)
        return None
    if result is None:  # of another process of the run
        return None
    if not is_in_sweep and "CAPTIONLAB_SWEEP" not in os.environ:
        from captionlab.reports import Comparison

        Comparison.read([folder.path]).print_table()
    return result.best_validation_score


def _of_the_machine(error: Exception, folder: Path) -> str | None:
    """What to do about memory, disk and files; None for an error that is nobody's but ours."""
    memory = out_of_memory(error)
    if memory is not None:
        return f"{memory} Run the same command again to resume."
    if not isinstance(error, OSError) or not concerns(error, folder):
        return None
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is missing; remove {folder}, and run the same command again."
    return unwritable(folder, error)


def _fail(message: str, folder: RunFolder, is_in_sweep: bool) -> None:
    """Log the message; a run of a sweep returns to it, a single run exits."""
    if message:
        log.error("%s", message)
    with suppress(CaptionLabError, OSError):
        if folder.state == "queued":  # it failed before it was running
            folder.set_state("failed", message.removeprefix("error: "), command=own_command())
    if not is_in_sweep:
        sys.exit(1)


def _one_line_of_a_full_disk(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Hydra's own reporting, but for its `multirun.yaml` on a full disk, which it would trace."""

    def guarded(function: Callable[[], Any]) -> Any:
        try:
            return function()
        except OSError as error:
            if not is_full(error):
                raise
            sys.exit(
                f"error: the folder of the sweep cannot be written ({error.strerror}); make room, "
                "or set runs_dir= to another, and run the same command again."
            )

    return lambda function: report(lambda: guarded(function))


def _train(config: Mapping[str, Any], folder: RunFolder) -> Result | None:
    from captionlab.runs.engine import execute, result_line  # brings Lightning

    result = execute(config, folder)
    if result is not None:
        log.info("%s", result_line(result))
    return result


def _option_groups(config: DictConfig) -> str:
    """The groups of the search path with their options, for `--help`; the chosen ones marked."""
    loader = GlobalHydra.instance().config_loader()
    chosen = config.hydra.runtime.choices
    lines = []
    for group in loader.list_groups(""):
        if group not in ("hydra", "schema"):
            options = [
                f"{option}*" if option == chosen.get(group) else option
                for option in loader.get_group_options(group)
            ]
            text = f"  {group:<13} {' '.join(options)}"
            lines.append(textwrap.fill(text, width=79, subsequent_indent=" " * 16))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and check the command line, then run or sweep.

    Args:
        arguments: overrides and flags of Hydra; the process's own unless given.
    """
    # As hydra.main does, which would take `train` of `captionlab train` for an override. Without
    # it in sys.argv, Lightning's ddp could not start its ranks by the same command.
    version.setbase("1.3")
    if os.environ.get("LOCAL_RANK", "0") != "0":  # a rank that Lightning's ddp started
        die_with_parent()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "--version" in words:
        print(f"captionlab {captionlab.__version__}")
        return
    parser = get_args_parser()
    try:
        options = _parse(parser, words)
        if not (options.hydra_help or options.shell_completion):
            _check(options, words)
    except ConfigError as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        sys.exit(f"error: {error}")
    reporting = _one_line_of_a_full_disk(hydra_utils.run_and_report)
    hydra_utils.run_and_report = reporting  # type: ignore[assignment]
    _run_hydra(
        args=options,
        args_parser=parser,
        task_function=run,
        config_path=_CONF,
        config_name=CONFIG_NAME,
    )


def _parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The command line; its flags may stand anywhere.

    Raises:
        ConfigError: for an unknown flag, one without its value, and two that exclude each other.
    """

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            raise ConfigError(f"{message}; --help shows how flags are used.")
        flags = re.findall(r"--[\w-]+", parser.format_usage())
        near = get_close_matches(unknown.partition("=")[0].split()[0], flags, n=1)
        hint = f"did you mean {near[0]}?" if near else "--help and --hydra-help list the flags."
        raise ConfigError(f"unknown flag {unknown}; {hint}")

    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(words)
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    given = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(options, mode)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other; keep one.")
    if options.resolve and not (options.cfg or options.help):
        raise ConfigError("--resolve needs --cfg job, whose values it resolves.")
    return options


def config_loader(config_dir: str | None, config_path: str | None = None) -> ConfigLoader:
    """What composes configurations, from the files of the package and those of the user.

    Args:
        config_dir: folder of the user's own groups and options.
        config_path: in place of the package's files.

    Raises:
        ConfigError: if `config_dir` is no folder.
    """
    path = create_automatic_config_search_path(None, None, config_path or _CONF)
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(
                f"--config-dir {config_dir} is no folder; give the one that holds your "
                "GROUP/OPTION.yaml files."
            )
        schema = SearchPathQuery(provider="schema")
        path.prepend(provider="command-line", path=f"file://{folder}", anchor=schema)
    return ConfigLoaderImpl(path)


def _check(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Find mistakes in the names of flags, groups and options.

    Raises:
        ConfigError: saying how to mend them.
    """
    is_sweep = options.multirun or "hydra.mode=MULTIRUN" in options.overrides
    command = ["captionlab", "train"] if sys.argv[1:2] == ["train"] else ["python", "run.py"]
    mended = [*command, "-m", *words]
    loader = config_loader(options.config_dir, options.config_path)
    config_name = options.config_name or CONFIG_NAME
    check_overrides(options.overrides, loader, config_name, None if is_sweep else mended)
    launcher = [word for word in options.overrides if re.match(r"hydra[./]launcher", word)]
    if launcher and not is_sweep:
        raise ConfigError(f"{launcher[0]} concerns sweeps; run\n  {shlex.join(mended)}")
