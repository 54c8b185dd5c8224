"""A finished run, or one of its checkpoints, as a captioner."""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from captionlab.captioner.captioner import Captioner
from captionlab.captioner.ensemble import EnsembleSource
from captionlab.captioner.exported import read_exported
from captionlab.captioner.parts import (
    build_dataset,
    build_decoder,
    build_encoder,
    build_search,
    build_source,
    build_tokenizer,
)
from captionlab.corpora import CaptionCorpus
from captionlab.corpora.datasets import CaptionDataset
from captionlab.decoders import Decoder
from captionlab.devices import find_device, resolve_precision
from captionlab.encoders import Encoder, RestoredEncoder
from captionlab.errors import CaptionLabError, ConfigError, RunError, StorageError, WeightsError
from captionlab.features.external import FeatureFile
from captionlab.features.source import EncoderFeatures
from captionlab.files import is_safetensors, read_whole
from captionlab.options import (
    REQUIRED,
    Option,
    check_options,
    find_part,
    options_of,
    renamed,
)
from captionlab.run_files import RunFiles, find_runs
from captionlab.text import Tokenizer, Vocabulary

_TEXT = Option("", str, (), REQUIRED, "")
_BOOL = "tag:yaml.org,2002:bool"
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class TrainedRun:
    """What a checkpoint holds, and what it was trained on.

    Attributes:
        config: of the run, overridden, in plain values.
        captioner: writes captions by the run's search.
        dataset: the run's own data, not read yet.
        tokenizer: of the run's captions.
        corpus_fingerprint: of the corpus that it was trained on.
    """

    config: dict[str, Any]
    captioner: Captioner
    dataset: CaptionDataset
    tokenizer: Tokenizer
    corpus_fingerprint: str

    @cached_property
    def corpus(self) -> CaptionCorpus:
        """The run's own data."""
        return self.dataset.read()


def load_run(target: Path, overrides: Sequence[str] = ()) -> TrainedRun:
    """Load a finished run.

    Args:
        target: a run's folder, a checkpoint, or a file of `captionlab export`.
        overrides: `key=value` of the run's configuration, such as `search.beam_size=5`.

    Raises:
        RunError: if there is no such run, or the file is no checkpoint of this version.
        ConfigError: for an override that does not exist or has a wrong value, or if the weights or
            features that the run was trained on are others now.
    """
    saved = read_checkpoint(checkpoint_of(target) if target.is_dir() else target)
    facts = saved["captionlab"]
    config = override(facts["config"], overrides)
    vocabulary = Vocabulary(facts["vocabulary"])
    encoder_state = part_state(saved, "encoder")
    try:
        dataset, tokenizer = build_dataset(config), build_tokenizer(config)
        encoder = _encoder(config, saved)
        # Older checkpoints have none: a random encoder is then fitted to the run's data again.
        encoder.calibration = facts["features"].get("calibration", {})
        if encoder_state:
            encoder.load_state_dict(encoder_state, assign=True)
        elif not isinstance(encoder, RestoredEncoder):
            _require_same(encoder, facts, config, target)
        source = build_source(config, encoder, own_corpus=lambda: _own_corpus(run))
        bare = copy.deepcopy(config)
        bare["decoder"].pop("word_vectors", None)  # the checkpoint has them, too
        decoder = build_decoder(bare, source.feature_shape, vocabulary)
        decoder.load_state_dict(part_state(saved, "decoder"))
        search = build_search(config, vocabulary)
    except CaptionLabError:
        raise
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if overrides:
            raise ConfigError(f"{' '.join(overrides)} does not fit {target} ({reason}).") from error
        raise RunError(
            f"{target} was made by another version of captionlab, which had other options "
            f"({reason}); train it again."
        ) from error
    batch_size = config["data"]["eval_batch_size"]
    captioner = Captioner(decoder, vocabulary, source, search, batch_size)
    run = TrainedRun(config, captioner, dataset, tokenizer, facts["features"]["corpus"])
    return run


def load_ensemble(folders: Sequence[Path], overrides: Sequence[str] = ()) -> TrainedRun:
    """Load several finished runs as one model: the mean of their probabilities.

    Args:
        folders: of finished runs on the same data with the same vocabulary. Search and batch size
            are the first one's.
        overrides: `key=value` of every run's configuration.

    Raises:
        RunError: if a folder is no finished run.
        ConfigError: if the runs differ in data or vocabulary.
    """
    runs = [load_run(folder, overrides) for folder in folders]
    first = runs[0]
    for folder, run in zip(folders, runs, strict=True):
        ours, theirs = run.captioner.vocabulary, first.captioner.vocabulary
        for what, differs in (
            ("data", run.corpus_fingerprint != first.corpus_fingerprint),
            ("vocabulary", ours.to_list() != theirs.to_list()),
        ):
            if differs:
                raise ConfigError(
                    f"{folder} has another {what} than {folders[0]}; only runs on the same data "
                    "with the same vocabulary can write together."
                )
    members = [run.captioner for run in runs]
    captioner = Captioner.ensemble(members, EnsembleSource([m.source for m in members]))
    return TrainedRun(
        first.config, captioner, first.dataset, first.tokenizer, first.corpus_fingerprint
    )


def initialise(
    decoder: Decoder,
    encoder: Encoder,
    source: Path,
    vocabulary: Vocabulary,
    features: Mapping[str, Any],
) -> None:
    """Give a run the weights of a finished run, or of a checkpoint, to start from.

    Args:
        decoder: gets the decoder's weights.
        encoder: prepared; gets the encoder's weights, if they were trained there.
        source: folder of the finished run, or a checkpoint.
        vocabulary: of this run.
        features: what this run's features are, from `EncoderFeatures.prepare`.

    Raises:
        RunError: if `source` is no finished run and no checkpoint.
        ConfigError: if it has another vocabulary, another encoder or other sizes, or trained its
            encoder where this run's is frozen.
    """
    saved = read_checkpoint(checkpoint_of(source) if source.is_dir() else source)
    facts = saved["captionlab"]
    if facts["vocabulary"] != vocabulary.to_list():
        raise ConfigError(
            f"init_from={source} has another vocabulary ({len(facts['vocabulary'])} words, this "
            f"run has {len(vocabulary)}); use its data, tokenizer and min_count."
        )
    theirs, ours = _encoder_of(facts["features"]), _encoder_of(features)
    if theirs != ours:
        raise ConfigError(
            f"init_from={source} has another encoder ({theirs}, this run has {ours}); use its "
            "encoder options."
        )
    trained = part_state(saved, "encoder")
    if trained and not encoder.num_trained_parameters:
        raise ConfigError(
            f"init_from={source} has trained its encoder, which is frozen in this run; set "
            "encoder.train=last, all or a number of stages."
        )
    _load_decoder(decoder, part_state(saved, "decoder"), source)
    if trained:
        encoder.load_state_dict(trained)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of captionlab, or a run that it exported; nothing in the file is executed.

    Returns:
        `captionlab`: what is known in plain values; `state_dict`: tensors.

    Raises:
        RunError: if it is none.
        StorageError: if it is damaged.
    """
    if is_safetensors(path):
        return read_exported(path)
    try:
        content = io.BytesIO(read_whole(path))
        saved: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        _ = saved["captionlab"]["features"]
    except FileNotFoundError as error:
        raise RunError(
            f"{path} does not exist; if its run has lost it, remove the run and run its command "
            "again, or name another."
        ) from error
    except Exception as error:  # torch raises many kinds for a file that is not its own
        found = str(error).splitlines()[0] if str(error) else "no reason"
        reason = f" ({type(error).__name__}: {found})"
        if isinstance(error, StorageError):
            if zipfile.is_zipfile(path):
                raise
            reason = ", or not a whole one"
        raise RunError(
            f"{path} is no checkpoint of captionlab{reason}; name a run's folder, one of its "
            "checkpoints or an exported file."
        ) from error
    return saved


def part_state(saved: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """State of `encoder` or `decoder`; nothing for an encoder that was frozen."""
    state = saved["state_dict"]
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


def checkpoint_of(folder: Path) -> Path:
    """The best checkpoint of a finished run.

    Raises:
        RunError: if there is none.
    """
    run = RunFiles(folder)
    inside = find_runs(folder)
    if run.state is None and inside:
        raise RunError(
            f"{folder} is a folder of {len(inside)} runs; name one, such as {inside[0]}."
        )
    if run.state is None:
        raise RunError(f"{folder} is no folder of a run; name one, such as runs/shapes/RUN.")
    if run.state != "complete":
        raise RunError(
            f"{folder} is no finished run (its state: {run.state}); run its command again to "
            "finish it, or name one of its checkpoints."
        )
    return run.best_checkpoint


def override(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A run's configuration with `key=value` changes to what does not go into its weights.

    Raises:
        ConfigError: for another key, no `=`, or a value that the option cannot have.
    """
    changed = copy.deepcopy(dict(config))
    groups: dict[str, dict[str, Any]] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        group, _, name = key.rpartition(".")
        spec = changed.get(group) if group else changed
        if not equals or not isinstance(spec, dict) or name not in spec:
            raise ConfigError(f"{text}: write KEY=VALUE with a key that the run has.")
        if name not in _settable(changed, group):
            raise ConfigError(
                f"{text} cannot be set for a trained model; allowed are the options of search and "
                "data, encoder.weights, encoder.batch_size, trainer.precision, "
                "trainer.accelerator and cache_dir."
            )
        spec[name] = _plain_value(value)
        groups[group] = spec
    for group, spec in groups.items():
        _check(group, spec, _settable(changed, group))
    return changed


def _settable(config: Mapping[str, Any], group: str) -> Mapping[str, Option]:
    """Options of a group that may be set for a trained model, by name."""
    spec = config[group] if group else {}
    own = options_of(find_part(spec["_target_"], object)) if "_target_" in spec else {}
    match group:
        case "search":
            return {"_target_": _TEXT, **own}
        case "data":
            workers = renamed(options_of(EncoderFeatures), num_workers="num_workers")
            batches = renamed(options_of(Captioner), eval_batch_size="batch_size")
            return {**own, **workers, **batches, **options_of(FeatureFile)}
        case "encoder":
            weights = renamed(own, weights="weights") if "weights" in own else {}
            return {**weights, **renamed(options_of(EncoderFeatures), batch_size="batch_size")}
        case "trainer":
            precision = renamed(options_of(resolve_precision), precision="precision")
            return {**precision, **renamed(options_of(find_device), accelerator="accelerator")}
        case "":
            return {"cache_dir": _TEXT}
    return {}


class _PlainLoader(yaml.SafeLoader):
    """YAML in which `on`, `off`, `yes` and `no` are words, as they are to Hydra."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(_BOOL, re.compile("true|false", re.IGNORECASE), list("tTfF"))


def _plain_value(text: str) -> Any:
    """A value as Hydra reads it on a command line."""
    if _EXPONENT.fullmatch(text):  # text to YAML 1.1 unless it has a point
        return float(text)
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError):  # ValueError: of a day that no month has
        return text  # where the option may be text


def _check(group: str, spec: dict[str, Any], options: Mapping[str, Option]) -> None:
    """Check options of a group, and give its numbers the types that they have."""
    prefix = f"{group}." if group else ""
    values = {name: option.convert(spec[name]) for name, option in options.items() if name in spec}
    check_options(prefix, options, values)
    spec.update(values)
    part: Any = find_part(spec["_target_"], object) if "_target_" in spec else None
    conflict = part.conflict(spec) if hasattr(part, "conflict") else None
    if conflict is not None:
        raise ConfigError(f"{prefix}{conflict}")


def _require_same(
    encoder: Encoder, facts: Mapping[str, Any], config: Mapping[str, Any], target: Path
) -> None:
    """Refuse another encoder than the one on whose features the decoder was trained."""
    file = config["data"].get("features")
    if file != facts["config"]["data"].get("features"):  # of other images, by the same program
        return
    trained_on, found = facts["features"]["encoder"], encoder.fingerprint
    if found != trained_on:
        where = (
            f"data.features={file}" if file else f"encoder.weights={config['encoder']['weights']}"
        )
        raise ConfigError(
            f"{target} was trained with {trained_on}, and {where} is {found} now; put that file "
            "back, or name where it lies (--set encoder.weights=PATH)."
        )


def _encoder(config: Mapping[str, Any], saved: Mapping[str, Any]) -> Encoder:
    """A run's encoder; weights that lie in the file need neither another file nor a download."""
    frozen, features = part_state(saved, "frozen_encoder"), saved["captionlab"]["features"]
    try:
        encoder = build_encoder(config)
    except WeightsError:
        if not frozen and not part_state(saved, "encoder"):
            raise
        encoder = build_encoder(config, weights="none")
    if frozen:
        return RestoredEncoder(encoder, frozen, features["encoder"], features["corpus"])
    return encoder


def _own_corpus(run: TrainedRun) -> CaptionCorpus:
    if run.corpus.fingerprint != run.corpus_fingerprint:
        raise ConfigError(
            f"the data in {run.config['data']['root']} has changed since this run was trained, and "
            "its encoder's random weights were fitted to the old data; restore the data, or train "
            "a run with pretrained weights (encoder.weights=imagenet)."
        )
    return run.corpus


def _encoder_of(features: Mapping[str, Any]) -> str:
    """Architecture, weights and size of what encoded the images of a run."""
    preprocessing = features["preprocessing"]
    pixels = f" at {preprocessing['image_size']} pixels" if preprocessing else ""  # or given
    return f"{features['encoder']}{pixels}"


def _load_decoder(decoder: nn.Module, theirs: Mapping[str, Tensor], source: Path) -> None:
    ours = decoder.state_dict()
    for name in (*ours, *theirs):
        there, here = (
            list(state[name].shape) if name in state else "absent" for state in (theirs, ours)
        )
        if there != here:
            raise ConfigError(
                f"init_from={source} has other sizes: {name} is {there} there and {here} in this "
                "run; use its decoder and conditioning options."
            )
    decoder.load_state_dict(theirs)
