"""The one door: a configuration in, the objects of a run out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import TQDMProgressBar

from captionlab.batches import CaptionDataModule
from captionlab.config.checks import has_own_conditioning
from captionlab.decoders import Decoder
from captionlab.decoders.cells import StateShape
from captionlab.devices import autocast_dtype, find_device, resolve_precision
from captionlab.encoders import ClassifierEncoder
from captionlab.errors import ConfigError
from captionlab.features import ImageEncoder
from captionlab.metrics import CaptionMetrics
from captionlab.objectives import Objective
from captionlab.search import GreedySearch, Search
from captionlab.seeding import seeded
from captionlab.text import Vocabulary, read_word_vectors
from captionlab.training.module import CaptioningModule
from captionlab.types import FeatureShape

log = logging.getLogger(__name__)

_NOT_ARGUMENTS = ("name", "suggested")


def _partial(node: DictConfig, leave_out: tuple[str, ...] = ()) -> Callable[..., Any]:
    """What `node` describes, not yet called; the only caller of Hydra's instantiate.

    Hydra would turn dataclasses among the arguments into configs, and wrap our errors.
    """
    kept = {str(k): v for k, v in node.items() if k not in (*_NOT_ARGUMENTS, *leave_out)}
    part: Callable[..., Any] = instantiate(OmegaConf.create(kept), _partial_=True, _convert_="all")
    return part


class Machine(NamedTuple):
    """Where and in which number format a run computes."""

    device: torch.device
    precision: Any

    @classmethod
    def of(cls, config: DictConfig) -> Machine:
        device = find_device(config.trainer.accelerator)
        return cls(device, resolve_precision(str(config.trainer.precision), device))


def build_data(config: DictConfig, machine: Machine) -> CaptionDataModule:
    """The data module; its photos are encoded when it is prepared, unless the encoder trains."""
    encoder = _partial(config.encoder, leave_out=("batch_size", "lr"))()
    return _build_data(config, machine, encoder)


def build_reader(config: DictConfig) -> CaptionDataModule:
    """The data module without an encoder, for those who want its corpus alone."""
    return _build_data(config, Machine(torch.device("cpu"), None), None)


def _build_data(
    config: DictConfig, machine: Machine, encoder: ImageEncoder | None
) -> CaptionDataModule:
    datamodule: CaptionDataModule = _partial(config.data)(
        encoder=encoder,
        tokenizer=_partial(config.tokenizer)(),
        augmentation=_partial(config.augmentation)() if config.augmentation else None,
        feature_dir=Path(config.cache_dir) / "features",
        encode_batch_size=config.encoder.batch_size,
        device=machine.device,
        autocast_dtype=autocast_dtype(machine.precision),
        seed=config.seed,
    )
    return datamodule


def build_module(
    config: DictConfig, datamodule: CaptionDataModule, identity: dict[str, Any]
) -> CaptioningModule:
    """The LightningModule for data that is set up; each part is seeded by itself."""
    vocabulary = datamodule.vocabulary
    decoder = build_decoder(config, datamodule.feature_shape, len(vocabulary))
    if config.decoder.word_vectors is not None:
        _load_word_vectors(decoder, Path(config.decoder.word_vectors), vocabulary)
    encoder, encoder_lr = datamodule.encoder, config.encoder.lr
    assert encoder is None or isinstance(encoder, ClassifierEncoder)
    return CaptioningModule(
        encoder=encoder,
        encoder_lr=config.optimizer.lr / 10 if encoder_lr is None else encoder_lr,
        decoder=decoder,
        objective=_build_objective(config, datamodule),
        validation_search=GreedySearch(config.search.max_length),
        test_search=build_search(config, vocabulary),
        optimizer=_build_optimizer(config),
        schedule=_partial(config.schedule)(),
        vocabulary=vocabulary,
        validation_metrics=CaptionMetrics(datamodule.references("val")),
        monitor=config.monitor,
        seed=config.seed,
        identity=identity,
        compiled=config.compile,
    )


def _build_optimizer(config: DictConfig) -> Callable[..., Any]:
    machine = Machine.of(config)
    # One kernel for all parameters: a CPU's step takes under a third. Gradient scaling would have
    # to go through it, and gradients could not be clipped.
    fused = machine.device.type in ("cpu", "cuda") and machine.precision != "16-mixed"
    return partial(_partial(config.optimizer), fused=fused)


def _build_objective(config: DictConfig, datamodule: CaptionDataModule) -> Objective:
    part = _partial(config.objective)
    objective: Objective
    if config.objective.name != "self_critical":
        objective = part()
    else:
        references = {
            image: [" ".join(datamodule.tokenizer(text)) for text in texts]
            for image, texts in datamodule.references("train").items()
        }
        objective = part(vocabulary=datamodule.vocabulary, references=references)
    return objective


def build_decoder(config: DictConfig, shape: FeatureShape, vocabulary_size: int) -> Decoder:
    """A decoder with fresh weights, those of conditioning and cell drawn apart."""
    decoder = config.decoder
    part = _partial(decoder, leave_out=("word_vectors",))
    image: dict[str, Any]
    if has_own_conditioning(config):
        image = {
            "feature_shape": shape,
            "num_positions": config.data.max_caption_length + 1,  # the start token too
        }
    else:
        with seeded(config.seed, "conditioning"):
            conditioning = _partial(config.conditioning)(
                feature_shape=shape,
                embedding_dim=decoder.embedding_dim,
                state_shape=StateShape.of(decoder.cell, decoder.num_layers, decoder.hidden_dim),
            )
        image = {"conditioning": conditioning}
    with seeded(config.seed, "decoder"):
        built: Decoder = part(**image, vocabulary_size=vocabulary_size)
    return built


def _load_word_vectors(decoder: Decoder, path: Path, vocabulary: Vocabulary) -> None:
    """Give the words that the file has its vectors."""
    embedding = decoder.get_submodule("embedding")
    assert isinstance(embedding, torch.nn.Embedding)
    ids, vectors = read_word_vectors(path, vocabulary.to_list(), embedding.embedding_dim)
    embedding.weight.data[ids] = vectors
    log.info("word vectors: %s has %d of %d words", path, len(ids), len(vocabulary))


def build_search(config: DictConfig, vocabulary: Vocabulary) -> Search:
    """The search that writes the captions a run is judged by."""
    part = _partial(config.search, leave_out=("forbidden_endings",))
    search: Search
    if "forbidden_endings" in config.search:
        search = part(forbidden_endings=vocabulary.encode(config.search.forbidden_endings)[1:-1])
    else:
        search = part()
    return search


def build_logger(config: DictConfig, run_folder: Path, run_id: str) -> Any | None:
    """The logger beside metrics.csv, or None."""
    if "_target_" not in config.logger:
        return None
    return _partial(config.logger)(run_folder=run_folder, run_id=run_id)


def build_trainer(
    config: DictConfig, machine: Machine, loggers: list[Any], callbacks: list[Any], folder: Path
) -> pl.Trainer:
    """The Trainer, with the callbacks of the configuration before `callbacks`.

    Raises:
        ConfigError: if Lightning refuses an argument.
    """
    configured = [_partial(node)() for node in config.callbacks.values() if node]
    bar = config.trainer.enable_progress_bar
    if bar is None:  # a bar where a person is watching; a log file gets the epoch lines alone
        bar = sys.stderr.isatty()
    if bar:
        configured.append(TQDMProgressBar(leave=False))
    decided_here = ("precision", "accelerator", "enable_progress_bar")
    try:
        trainer: pl.Trainer = _partial(config.trainer, leave_out=decided_here)(
            accelerator=config.trainer.accelerator,
            precision=machine.precision,
            enable_progress_bar=bar,
            logger=loggers,
            callbacks=[*configured, *callbacks],
            default_root_dir=folder,
            use_distributed_sampler=False,  # ours shards by rank and never pads validation
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error}") from error
    return trainer
