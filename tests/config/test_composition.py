"""The configurations of a sweep, and what Hydra itself makes of the same words."""

from __future__ import annotations

from unittest.mock import Mock

from hydra.types import RunMode
from omegaconf import OmegaConf

from captionlab.config.composition import SweepLoader
from captionlab.config.overrides import CONFIG_NAME
from captionlab.runs.main import config_loader

RUNS = [
    ["seed=1", "decoder=lstm", "callbacks.early_stopping.patience=2"],
    ["seed=2", "decoder=lstm", "callbacks.early_stopping.patience=3"],
    ["seed=2", "decoder=gru", "callbacks.early_stopping.patience=3"],
    ["seed=3", "decoder=gru", "callbacks.early_stopping.patience=null"],
    ["seed=3", "+trainer.limit_val_batches=1"],
    ["seed=4", "+trainer.limit_val_batches=2"],
    ["decoder.dropout=0.25", "name=a", "experiment=quick"],
    ["decoder.dropout=0.5", "name=b", "experiment=quick"],
]


def test_a_sweep_is_composed_as_hydra_does_once_per_choice_of_groups() -> None:
    hydra = config_loader(None)
    master = hydra.load_configuration(CONFIG_NAME, ["hydra/launcher=local"], RunMode.MULTIRUN)
    counted = Mock(wraps=hydra)
    loader = SweepLoader(counted)
    for words in [*RUNS, *RUNS]:
        ours = loader.load_sweep_config(master, words)
        theirs = hydra.load_sweep_config(master, words)
        assert OmegaConf.to_container(ours) == OmegaConf.to_container(theirs), words
        assert ours.hydra.overrides.task == words
    assert counted.load_sweep_config.call_count == 5
