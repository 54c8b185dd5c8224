"""Builds the objects of a run from its configuration; the only place that does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from captionlab.batches import Loaders, TokenizedCorpus, encode_captions
from captionlab.captioner.captioner import Captioner
from captionlab.captioner.parts import (
    build_dataset,
    build_decoder,
    build_encoder,
    build_search,
    build_source,
    build_tokenizer,
    precision_of,
)
from captionlab.corpora import SPLITS, CaptionCorpus
from captionlab.corpora.datasets import CaptionDataset
from captionlab.encoders import Encoder
from captionlab.errors import ConfigError
from captionlab.features.source import EncoderFeatures
from captionlab.images.augmentation import Augmentation, View
from captionlab.metrics import CaptionMetrics
from captionlab.objectives import Objective
from captionlab.options import make_part, options_of
from captionlab.search import GreedySearch
from captionlab.text import Vocabulary
from captionlab.training.module import CaptioningModule
from captionlab.training.optimizers import OptimizerFactory
from captionlab.training.schedules import Schedule
from captionlab.training.trainer import make_trainer

log = logging.getLogger(__name__)

RANDOM_WEIGHTS = (
    "the encoder's weights are random (encoder.weights=none): enough for drawings, not for photos"
)

Config = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on.

    Attributes:
        dataset: where the corpus comes from.
        corpus: its images, captions and splits.
        tokenized: its captions as words.
        vocabulary: of the training captions.
        encoder: of the images.
        source: of their features, prepared.
        features: what these are and what they cost, in plain values.
        loaders: of batches.
    """

    dataset: CaptionDataset
    corpus: CaptionCorpus
    tokenized: TokenizedCorpus
    vocabulary: Vocabulary
    encoder: Encoder
    source: EncoderFeatures
    features: dict[str, Any]
    loaders: Loaders


def build_data(config: Config, device: torch.device | None = None) -> TrainingData:
    """Read the data set, encode its images where that was not done before, and its captions.

    Args:
        config: of the run.
        device: where to compute; None for the machine's first.
    """
    data = config["data"]
    dataset = build_dataset(config)
    corpus = dataset.read()
    corpus.require(*SPLITS)
    if config["monitor"] == "val/cider_d" and len(corpus.splits["val"]) == 1:
        raise ConfigError(
            f"{corpus.name} has one validation image, of which CIDEr-D is always 0, so that no "
            "epoch is the best; give it more, or set monitor=val/rouge_l."
        )
    encoder = build_encoder(config)
    if encoder.has_random_weights:
        log.info("%s", RANDOM_WEIGHTS)
    source = build_source(config, encoder, device=device)
    views = _views(config)
    features = source.prepare(corpus, views)
    tokenized = TokenizedCorpus.of(corpus, build_tokenizer(config))
    vocabulary = tokenized.vocabulary(data["min_count"], data["max_vocabulary"])
    items = encode_captions(tokenized, vocabulary, data["max_caption_length"], len(views))
    sizes = {name: data[name] for name in options_of(Loaders) if name in data}
    loaders = Loaders(corpus, items, source, views, config["seed"], **sizes)
    return TrainingData(dataset, corpus, tokenized, vocabulary, encoder, source, features, loaders)


def _views(config: Config) -> list[View]:
    """Augmented views of training photos, numbered from 1."""
    if not config["augmentation"]:
        return []
    augmentation = make_part(config["augmentation"], Augmentation)
    return [View(augmentation, number) for number in range(1, augmentation.num_views + 1)]


def build_module(config: Config, data: TrainingData, identity: dict[str, Any]) -> CaptioningModule:
    """The LightningModule for data that is there; each part is seeded by itself."""
    decoder = build_decoder(config, data.source.feature_shape, data.vocabulary)
    rate, device = config["encoder"]["lr"], data.source.device
    objective = make_part(
        config["objective"],
        Objective,
        vocabulary=data.vocabulary,
        references=data.tokenized.references("train"),
    )
    # A CPU's step takes under a third of the time so. Gradient scaling would have to go through the
    # kernel, and gradients could not be clipped.
    one_kernel = device.type in ("cpu", "cuda") and precision_of(config, device) != "16-mixed"
    return CaptioningModule(
        encoder=data.encoder if data.source.trained else None,
        encoder_lr=config["optimizer"]["lr"] / 10 if rate is None else rate,
        decoder=decoder,
        objective=objective,
        validation_search=GreedySearch(config["search"]["max_length"]),
        optimizer=make_part(config["optimizer"], OptimizerFactory),
        fused=True if one_kernel else None,
        schedule=make_part(config["schedule"], Schedule),
        vocabulary=data.vocabulary,
        validation_metrics=CaptionMetrics(data.corpus.references("val")),
        monitor=config["monitor"],
        seed=config["seed"],
        identity=identity,
        compiled=config["compile"],
    )


def build_captioner(config: Config, data: TrainingData, module: CaptioningModule) -> Captioner:
    """What writes the captions that a run is judged by."""
    search = build_search(config, data.vocabulary)
    batch_size = config["data"]["eval_batch_size"]
    return Captioner(module.decoder, data.vocabulary, data.source, search, batch_size)


def build_logger(config: Config, run_folder: Path, run_id: str) -> Logger | None:
    """The logger beside metrics.csv, or None."""
    if "_target_" not in config["logger"]:
        return None
    logger: Logger = _instantiate(config["logger"], run_folder=run_folder, run_id=run_id)
    return logger


def build_trainer(
    config: Config,
    precision: str,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    folder: Path,
) -> pl.Trainer:
    """The Trainer, with the callbacks of the configuration before `callbacks`.

    Raises:
        ConfigError: if Lightning refuses an argument.
    """
    configured = [_instantiate(spec) for spec in config["callbacks"].values() if spec]
    options = {
        name: _instantiate(value) if isinstance(value, dict) and "_target_" in value else value
        for name, value in config["trainer"].items()
    }
    return make_trainer(options, precision, [*configured, *callbacks], loggers, folder)


def _instantiate(spec: Mapping[str, Any], **derived: Any) -> Any:
    """Make what describes somebody else's class; the only caller of Hydra's instantiate.

    `derived` is given afterwards: Hydra would turn dataclasses among the arguments into configs.
    """
    part = instantiate(OmegaConf.create(dict(spec)), _partial_=True, _convert_="all")
    return part(**derived)
