"""Runs that look finished, their weights fresh, on one small data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from captionlab.captioner.captioner import Captioner
from captionlab.captioner.load import load_run
from captionlab.captioner.parts import build_decoder
from captionlab.config import build
from captionlab.decoders import Decoder
from captionlab.runs.folder import RunFolder
from captionlab.text import Vocabulary
from tests.support.configs import checked

OPTIONS = ["encoder=resnet18", "encoder.image_size=64", "data.num_workers=0"]
OPTIONS += ["data.num_train=24", "data.num_val=8", "data.num_test=8", "data.image_size=32"]
SMALL = ["decoder.hidden_dim=8", "decoder.embedding_dim=6"]


class Place:
    """Makes run folders and the data that they were trained on.

    Attributes:
        folder: holds all of it.
        data: of the default configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _, self.data = self.set_up()

    def decoder(self) -> Decoder:
        """Fresh, of the default configuration."""
        config, data = self.set_up()
        return build_decoder(config, data.source.feature_shape, data.vocabulary)

    def captioner(self, name: str, *overrides: str) -> Captioner:
        """Of a run that `run` makes."""
        return load_run(self.run(name, *overrides)).captioner

    def run(self, name: str, *overrides: str, words: list[str] | None = None) -> Path:
        """A finished run's folder."""
        config, data = self.set_up(*overrides)
        vocabulary = Vocabulary(words or data.vocabulary.to_list())
        decoder = build_decoder(config, data.source.feature_shape, vocabulary)
        with torch.no_grad():  # larger than fresh, so that captions differ
            for parameter in decoder.parameters():
                parameter.mul_(3)
        facts = {
            "config": config,
            "features": {
                key: data.features[key]
                for key in ("corpus", "encoder", "preprocessing", "calibration")
            },
            "vocabulary": vocabulary.to_list(),
        }
        folder = RunFolder(self.folder / name)
        folder.checkpoints.mkdir(parents=True)
        folder.set_state("complete")
        state = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
        if data.source.trained:
            for key, value in data.encoder.state_dict().items():
                state[f"encoder.{key}"] = value * 1.1 if key.endswith("weight") else value
        torch.save({"captionlab": facts, "state_dict": state}, folder.best_checkpoint)
        return folder.path

    def set_up(self, *overrides: str) -> tuple[dict[str, Any], build.TrainingData]:
        """A configuration, and its data."""
        config = checked(*OPTIONS, *SMALL, f"cache_dir={self.folder}/data", *overrides)
        return config, build.build_data(config)
