"""The parts of a captioner, made from a run's configuration in plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from captionlab.corpora import CaptionCorpus
from captionlab.corpora.datasets import CaptionDataset
from captionlab.decoders import Conditioning, Decoder
from captionlab.decoders.cells import StateShape
from captionlab.devices import Precision, autocast_dtype, find_device, resolve_precision
from captionlab.encoders import Encoder, ExternalEncoder
from captionlab.features.external import ExternalFeatures, FeatureFile
from captionlab.features.source import EncoderFeatures, LiveFeatures, StoredFeatures
from captionlab.images.photos import num_cores
from captionlab.options import find_part, make_part
from captionlab.search import Search
from captionlab.seeding import seeded
from captionlab.text import Tokenizer, Vocabulary
from captionlab.types import FeatureShape

Config = Mapping[str, Any]


def build_dataset(config: Config) -> CaptionDataset:
    """The data set, not read yet."""
    data, cache_dir = config["data"], Path(config["cache_dir"])
    workers = num_cores() if data["num_workers"] is None else data["num_workers"]
    dataset = make_part(data, CaptionDataset, cache_dir=cache_dir, num_workers=workers)
    dataset.needs_photos = feature_file(config) is None
    return dataset


def feature_file(config: Config) -> FeatureFile | None:
    """The features that were made elsewhere; None for a run with an encoder."""
    path = config["data"].get("features")  # older runs have no such option
    return None if path is None else FeatureFile(path)


def features_digest(config: Config, file: FeatureFile) -> str:
    """A hash of the content of features that were made elsewhere."""
    return file.digest(Path(config["cache_dir"]))


def build_tokenizer(config: Config) -> Tokenizer:
    """What turns captions into words."""
    return make_part(config["tokenizer"], Tokenizer)


def build_encoder(config: Config, **changes: Any) -> Encoder:
    """The encoder, its weights not loaded yet."""
    file = feature_file(config)
    if file is not None:
        fingerprint = f"{file.name}/{features_digest(config, file)}"
        return ExternalEncoder(str(file.path), fingerprint, file.feature_shape)
    return make_part({**config["encoder"], **changes}, Encoder)


def build_source(
    config: Config,
    encoder: Encoder,
    own_corpus: Callable[[], CaptionCorpus] | None = None,
    device: torch.device | None = None,
) -> EncoderFeatures:
    """The features of an encoder: stored if it is frozen or was run elsewhere, live if trained.

    Args:
        config: of the run.
        encoder: from `build_encoder`.
        own_corpus: gives the corpus to which a frozen encoder's random weights were fitted.
        device: where to compute; None for this machine's first, which a finished run is used on.
    """
    device = device or find_device(config["trainer"]["accelerator"])
    settings: dict[str, Any] = {
        "encoder": encoder,
        "folder": Path(config["cache_dir"]) / "features",
        "batch_size": config["encoder"]["batch_size"],
        "num_workers": config["data"]["num_workers"],
        "stored_features": config["data"]["stored_features"],
        "device": device,
        "autocast_dtype": autocast_dtype(precision_of(config, device)),
    }
    file = feature_file(config)
    if file is not None:
        return ExternalFeatures(file, **settings)
    if encoder.num_trained_parameters:
        return LiveFeatures(**settings)
    return StoredFeatures(**settings, own_corpus=own_corpus)


def precision_of(config: Config, device: torch.device) -> Precision:
    """The number format in which a run computes on a device."""
    return resolve_precision(config["trainer"]["precision"], device)


def build_decoder(config: Config, shape: FeatureShape, vocabulary: Vocabulary) -> Decoder:
    """A decoder with fresh weights, those of conditioning and cell drawn apart."""
    decoder = config["decoder"]
    derived: dict[str, Any] = {
        "feature_shape": shape,
        "num_positions": config["data"]["max_caption_length"] + 1,  # the start token too
        "vocabulary_size": len(vocabulary),
        "vocabulary": vocabulary,
    }
    if find_part(decoder["_target_"], Decoder).takes_conditioning:
        sizes = decoder["cell"], decoder["num_layers"], decoder["hidden_dim"]
        with seeded(config["seed"], "conditioning"):
            derived["conditioning"] = make_part(
                config["conditioning"],
                Conditioning,
                feature_shape=shape,
                embedding_dim=decoder["embedding_dim"],
                state_shape=StateShape.of(*sizes),
            )
    with seeded(config["seed"], "decoder"):
        return make_part(decoder, Decoder, **derived)


def build_search(config: Config, vocabulary: Vocabulary) -> Search:
    """The search that writes the captions a run is judged by."""
    return make_part(config["search"], Search, vocabulary=vocabulary)
