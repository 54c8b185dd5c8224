"""What a search does, from its command line, checked before anything is made on disk."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from captionlab.config.checks import check
from captionlab.config.overrides import CONFIG_NAME, check_overrides, explain
from captionlab.config.space import Dimension, split_space
from captionlab.errors import ConfigError
from captionlab.runs.folder import RunFolder, check_writable
from captionlab.runs.identity import identity
from captionlab.runs.launching.launcher import SweepRun
from captionlab.runs.main import config_loader
from captionlab.runs.requirements import check_new_parts, check_requirements

_NUM_SEEDS = 3  # that confirm the best configuration
_INSTEAD = {
    r"hydra[./]launcher|n_jobs": "use --workers N, or start the command several times",
    r"hydra[./]": "`captionlab tune` does not use Hydra's sweeper or launchers; leave it out",
    r"(repeats|retry)$": "it belongs to `captionlab train -m`; leave it out",
    r"test$": "only the best trial is tested, at the end; leave it out",
}


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        space: what varies.
        fixed: the other overrides, by the option that they set.
        name: of the folder of runs.
        folder: of the runs.
        monitor: the validation score that is searched for the best of.
        seed: of the runs.
        identity: of a run at one corner of the space, to tell this search from others.
        config_dir: folder of the user's own groups and options.
        loader: of configurations.
    """

    space: list[Dimension]
    fixed: dict[str, str]
    name: str
    folder: Path
    monitor: str
    seed: int
    identity: dict[str, Any]
    config_dir: str | None
    loader: ConfigLoader

    def run(self, values: Mapping[str, Any], test: bool = False) -> SweepRun:
        """The run of one point of the space.

        Args:
            values: by the names of the space.
            test: whether it is scored on the test images.

        Raises:
            CaptionLabError: if the values do not go together.
        """
        point = [f"{d.key}={values[d.key]}" for d in self.space]
        overrides = [*self.fixed.values(), *point]
        words = overrides if test else [*overrides, "test=false"]
        config = _compose(words, self.loader)
        checked = check(config)
        flags = [] if self.config_dir is None else ["--config-dir", self.config_dir]
        return SweepRun(
            label=" ".join(f"{d.key}={shown(values[d.key])}" for d in self.space),
            folder=RunFolder(Path(config.hydra.run.dir)),
            command=[sys.executable, "-m", "captionlab.cli", "train", *flags, *words],
            trainer=checked["trainer"],
            config=config,
            overrides=overrides,
        )

    def confirmation(self, values: Mapping[str, Any]) -> str:
        """The command that trains a point of the space with seeds that were not searched."""
        seeds = range(self.seed + 1, self.seed + 1 + _NUM_SEEDS)
        fixed = [word for key, word in self.fixed.items() if key not in ("name", "seed")]
        words = [
            *([] if self.config_dir is None else ["--config-dir", self.config_dir]),
            *fixed,
            *(f"{d.key}={values[d.key]}" for d in self.space),
            f"name={self.name}-confirmed",
            f"seed={','.join(map(str, seeds))}",
        ]
        return shlex.join(["captionlab", "train", "-m", *words])


def read_plan(words: Sequence[str], config_dir: str | None) -> Plan:
    """Read and check a command line.

    Args:
        words: overrides; those that name several values or a range are the space.
        config_dir: folder of the user's own groups and options.

    Raises:
        CaptionLabError: in one or two lines, for what cannot be searched or could not run.
    """
    loader = config_loader(config_dir)
    for word in words:
        for pattern, instead in _INSTEAD.items():
            if re.match(pattern, word.lstrip("+~").partition("=")[0]):
                raise ConfigError(f"{word}: {instead}.")
    check_overrides(words, loader, searches=True)
    space, fixed = split_space(words, loader)
    if not space:
        raise ConfigError(
            "nothing to search; give an option several values or a range, such as "
            "decoder=lstm,gru or 'optimizer.lr=tag(log, interval(1e-4, 1e-2))'."
        )
    for dimension in space:
        if dimension.key in ("seed", "name"):
            raise ConfigError(
                f"{dimension.key} cannot be searched; seeds are compared by "
                "`captionlab train -m ... seed=0,1,2`."
            )
    corner = [d.extremes[0] for d in space]
    name = _compose([*fixed.values(), *corner], loader).name
    fixed["name"] = f"name={name if 'name' in fixed else f'tune-{name}'}"
    _check_space(space, list(fixed.values()), loader)
    config = _compose([*fixed.values(), *corner], loader)
    values = check(config)
    check_requirements(values)
    folder = Path(config.hydra.run.dir).parent
    check_writable(folder)
    return Plan(
        space=space,
        fixed=fixed,
        name=values["name"],
        folder=folder,
        monitor=values["monitor"],
        seed=values["seed"],
        identity=identity(values),
        config_dir=config_dir,
        loader=loader,
    )


def _check_space(space: Sequence[Dimension], fixed: list[str], loader: ConfigLoader) -> None:
    """Check each choice and both ends of each range, beside the first of the others.

    Raises:
        ConfigError: naming the option and what is allowed.
    """
    corner = [d.extremes[0] for d in space]
    checked: set[str] = set()
    for i, dimension in enumerate(space):
        for word in dimension.extremes:
            config = _compose([*fixed, *corner[:i], word, *corner[i + 1 :]], loader)
            try:
                values = check(config)
            except ConfigError as error:
                is_real = isinstance(dimension.low, float) and not dimension.choices
                hint = " For whole numbers write int(interval(...))." * (
                    is_real and "whole number" in str(error)
                )
                raise ConfigError(f"{word}: {error}{hint}") from error
            check_new_parts(values, checked)


def _compose(words: Sequence[str], loader: ConfigLoader) -> DictConfig:
    try:
        return loader.load_configuration(CONFIG_NAME, list(words), RunMode.RUN)
    except HydraException as error:
        raise explain(error, words, loader, CONFIG_NAME) from error


def shown(value: Any) -> str:
    """A value of the space as tables show it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
