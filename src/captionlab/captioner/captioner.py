"""A finished run's model, ready to write captions."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from captionlab.batches import CaptionDataModule
from captionlab.config import build
from captionlab.corpora import CaptionCorpus
from captionlab.corpora.corpus import Split
from captionlab.decoders import Decoder
from captionlab.devices import autocast_dtype
from captionlab.encoders import ClassifierEncoder
from captionlab.errors import ConfigError, RunError
from captionlab.features import FeatureStore
from captionlab.features.store import calibration_batches
from captionlab.images.preprocessing import normalise
from captionlab.runs.folder import RunFolder
from captionlab.search import (
    EnsembleDecoder,
    EnsembleFeatures,
    SampleSearch,
    caption_log_probabilities,
)
from captionlab.text import Vocabulary
from captionlab.types import Hypothesis, ImageFeatures

_BATCH_SIZE = 16  # photos that random weights are fitted to


class TrainedModel:
    """The decoder of a checkpoint, and the encoder that it holds or names.

    Args:
        checkpoint: `best.ckpt` of a run.
        overrides: `key=value` of the run's configuration, such as `search.beam_size=5`.

    Attributes:
        config: of the run, overridden.
        datamodule: of the run's own data, not loaded.
        decoder: in evaluation mode.

    Raises:
        RunError: if the file is no checkpoint of captionlab, or one of another version.
        ConfigError: for an override that does not exist.
    """

    def __init__(self, checkpoint: Path, overrides: Sequence[str] = ()) -> None:
        saved = _read(checkpoint)
        told = saved["captionlab"]
        self.config = override(told["config"], overrides)
        trained = _part(saved, "encoder")
        self._has_encoder = self._encoder_is_loaded = bool(trained)
        if trained:
            self.config.encoder.weights = "none"  # neither a file nor a download is needed
        self.vocabulary = Vocabulary(told["vocabulary"])
        self._corpus: str = told["features"]["corpus"]
        self.machine = build.Machine.of(self.config)
        try:
            self.datamodule = build.build_data(self.config, self.machine)
        except OmegaConfBaseException as error:
            raise RunError(
                f"{checkpoint} was made by another version of captionlab, which had other options "
                f"({str(error).splitlines()[0]}); train it again."
            ) from error
        assert self.datamodule.encoder is not None
        self.encoder = self.datamodule.encoder
        if trained:
            assert isinstance(self.encoder, ClassifierEncoder)
            self.encoder.load_state_dict(trained, assign=True)
            self.encoder.to(self.machine.device).eval()
        self.decoder: Decoder = build.build_decoder(
            self.config, self.encoder.feature_shape, len(self.vocabulary)
        )
        self.decoder.load_state_dict(_part(saved, "decoder"))
        self.decoder.to(self.machine.device).eval()

    def features(self, corpus: CaptionCorpus) -> FeatureStore:
        """Features of a corpus, encoded first where they are not yet.

        Raises:
            ConfigError: if the encoder's random weights were fitted to another corpus.
        """
        self._require_own(corpus)
        return self.datamodule.open_features(corpus)

    def _require_own(self, corpus: CaptionCorpus) -> None:
        if self.encoder.num_calibration_images and corpus.fingerprint != self._corpus:
            raise ConfigError(
                "this run's encoder has random weights that were fitted to its own data set; on "
                f"another ({corpus.name}) it would be another encoder. Evaluate it on its own, or "
                "train one with real weights."
            )

    def write(self, corpus: CaptionCorpus, split: Split) -> dict[str, Hypothesis]:
        """A caption for each image of a split, by the run's search."""
        search = build.build_search(self.config, self.vocabulary)
        found: dict[str, Hypothesis] = {}
        with self.autocast():
            for images, features in self._batches("writing captions", corpus, split):
                found |= zip(images, search(self.decoder, features), strict=True)
        return found

    def sample(
        self, corpus: CaptionCorpus, split: Split, num_samples: int
    ) -> dict[str, list[Hypothesis]]:
        """Several captions for each image, drawn from the model's own distribution."""
        max_length = self.config.search.max_length
        search = SampleSearch(max_length, temperature=1.0, top_k=None, top_p=1.0, seed=0)
        found: dict[str, list[Hypothesis]] = {}
        with self.autocast():
            for images, features in self._batches("drawing captions", corpus, split):
                drawn = search.draw(self.decoder, features, num_samples)
                found |= zip(images, drawn, strict=True)
        return found

    def perplexity(self, corpus: CaptionCorpus, split: Split) -> float:
        """Of the references, per token, end counted and words out of vocabulary as one word."""
        total, count = 0.0, 0
        references = self._encode(corpus, split)
        with self.autocast():
            for images, features in self._batches("reading references", corpus, split):
                tokens = _stack([references[image] for image in images], features.pooled.device)
                log_probs, counts = caption_log_probabilities(self.decoder, features, tokens)
                total += float(log_probs.sum())
                count += int(counts.sum())
        return math.exp(-total / count)

    def retrieval(self, corpus: CaptionCorpus, split: Split, pool_size: int) -> dict[str, float]:
        """How often a caption's own image is among those that make it likeliest.

        Every image's first reference looks for its image among the `pool_size` first images of
        the split.

        Returns:
            `recall_at_1`, `recall_at_5` and `recall_at_10`.

        Source:
            Tanti et al. 2018, sec. 4.3.
        """
        references = self._encode(corpus, split)
        pool = list(references)[:pool_size]
        captions = [references[image][0] for image in pool]
        rows = []
        with self.autocast():
            for images, features in self._batches("looking for images", corpus, split, pool):
                tokens = _stack([captions] * len(images), features.pooled.device)
                rows.append(caption_log_probabilities(self.decoder, features, tokens)[0])
        likelihood = torch.cat(rows)  # (images, captions)
        own = likelihood.diagonal()
        better = (likelihood > own).sum(0)
        return {f"recall_at_{k}": float((better < k).float().mean()) for k in (1, 5, 10)}

    def autocast(self) -> torch.autocast:
        """The number format in which the run computes."""
        dtype = autocast_dtype(self.machine.precision)
        return torch.autocast(self.machine.device.type, dtype, dtype is not None)

    def _batches(
        self,
        doing: str,
        corpus: CaptionCorpus,
        split: Split,
        images: Sequence[str] | None = None,
    ) -> Iterator[tuple[list[str], ImageFeatures]]:
        ids = [image.image_id for image in corpus.splits[split]] if images is None else list(images)
        size = self.config.data.eval_batch_size if images is None else 10
        batches = [ids[begin : begin + size] for begin in range(0, len(ids), size)]
        shown = tqdm(batches, desc=doing, disable=not sys.stderr.isatty(), leave=False)
        yield from zip(shown, self._encoded(corpus, batches), strict=True)

    def _encoded(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        """The decoder's features of images by id: stored, or made by a trained encoder."""
        if self._has_encoder:
            ids = [image for batch in batches for image in batch]
            yield from map(self.encode, self.datamodule.read_pixels(corpus, ids, len(batches[0])))
        else:
            store = self.features(corpus)
            for batch in batches:
                yield store.read(batch).to(self.machine.device, dtype=torch.float32)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Features of photos, uint8 (B, 3, S, S), in float32, by the encoder itself.

        Those of a frozen encoder are rounded to float16, as they are where they are stored.

        Raises:
            ConfigError: if the encoder's random weights were fitted to a data set that has changed.
            WeightsError: if the encoder's weights cannot be had.
        """
        device = self.machine.device
        if not self._encoder_is_loaded:
            batches: Iterable[Tensor] = []
            if self.encoder.num_calibration_images:
                corpus = self.datamodule.read_usable()
                self._require_own(corpus)
                batches = calibration_batches(self.encoder, corpus, _BATCH_SIZE, 0)
            self.encoder.prepare(batches, device)
            self._encoder_is_loaded = True
        with self.autocast():
            features = self.encoder(normalise(pixels.to(device), self.encoder.preprocessing))
        stored = features if self._has_encoder else features.to(torch.float16)
        return stored.to(torch.float32)

    def _encode(self, corpus: CaptionCorpus, split: Split) -> dict[str, list[list[int]]]:
        tokenizer = self.datamodule.tokenizer
        return {
            image.image_id: [self.vocabulary.encode(tokenizer(text)) for text in image.captions]
            for image in corpus.splits[split]
        }


class TrainedEnsemble(TrainedModel):
    """Several finished runs as one model: the mean of their probabilities, each its own features.

    Args:
        folders: of finished runs on the same data with the same vocabulary. Search and batch size
            are the first one's.
        overrides: `key=value` of every run's configuration.

    Raises:
        RunError: if a folder is no finished run.
        ConfigError: if the runs differ in data or vocabulary.
    """

    def __init__(self, folders: Sequence[Path], overrides: Sequence[str] = ()) -> None:
        self._members = [TrainedModel(checkpoint_of(folder), overrides) for folder in folders]
        first = self._members[0]
        for folder, member in zip(folders, self._members, strict=True):
            for what, differs in (
                ("data", member._corpus != first._corpus),
                ("vocabulary", member.vocabulary.to_list() != first.vocabulary.to_list()),
            ):
                if differs:
                    raise ConfigError(
                        f"--ensemble: {folder} has another {what} than {folders[0]} "
                        f"({len(member.vocabulary)} and {len(first.vocabulary)} words); only runs "
                        "on the same data with the same vocabulary can write together."
                    )
        self.config, self.machine = first.config, first.machine
        self.vocabulary, self.datamodule = first.vocabulary, first.datamodule
        self.decoder = EnsembleDecoder([member.decoder for member in self._members])
        self.decoder.eval()

    def _encoded(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        encoded = [member._encoded(corpus, batches) for member in self._members]
        return (EnsembleFeatures.of(features) for features in zip(*encoded, strict=True))


def load_weights(decoder: Decoder, source: Path, datamodule: CaptionDataModule) -> None:
    """Give a decoder the weights of a finished run, or of a checkpoint, to go on from.

    An encoder that is trained gets its weights too, if they were trained there.

    Args:
        decoder: made for `datamodule`.
        source: folder of the run, or a checkpoint.
        datamodule: set up; holds the encoder that is trained.

    Raises:
        RunError: if `source` is no finished run and no checkpoint.
        ConfigError: if it has another vocabulary, another encoder or other sizes, or trained its
            encoder where this run's is frozen.
    """
    saved = _read(checkpoint_of(source) if source.is_dir() else source)
    told = saved["captionlab"]
    if told["vocabulary"] != datamodule.vocabulary.to_list():
        raise ConfigError(
            f"init_from={source} has another vocabulary ({len(told['vocabulary'])} words, this run "
            f"has {len(datamodule.vocabulary)}); use its data, tokenizer and min_count."
        )
    theirs, ours = (_encoder_of(told["features"]), _encoder_of(datamodule.encoded))
    if theirs != ours:
        raise ConfigError(
            f"init_from={source} has another encoder ({theirs}, this run has {ours}); use its "
            "encoder options."
        )
    trained = _part(saved, "encoder")
    if trained and datamodule.encoder is None:
        raise ConfigError(
            f"init_from={source} has trained its encoder, which is frozen in this run; set "
            "encoder.train=last, all or a number of stages."
        )
    _check_sizes(decoder, _part(saved, "decoder"), source)
    decoder.load_state_dict(_part(saved, "decoder"))
    if trained:
        assert isinstance(datamodule.encoder, ClassifierEncoder)
        datamodule.encoder.load_state_dict(trained)


def _encoder_of(features: dict[str, Any]) -> str:
    """Architecture, weights and size of what encoded the images of a run."""
    return f"{features['encoder']} at {features['preprocessing']['image_size']} pixels"


def _check_sizes(decoder: Decoder, theirs: dict[str, Tensor], source: Path) -> None:
    ours = decoder.state_dict()
    for name in (*ours, *theirs):
        there, here = (
            list(each[name].shape) if name in each else "absent" for each in (theirs, ours)
        )
        if there != here:
            raise ConfigError(
                f"init_from={source} has other sizes: {name} is {there} there and {here} in this "
                "run; use its decoder and conditioning options."
            )


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        _ = saved["captionlab"]["features"]
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise RunError(
            f"{checkpoint} is no checkpoint of captionlab ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason'})."
        ) from error
    return saved


def _part(saved: dict[str, Any], name: str) -> dict[str, Tensor]:
    """State of the encoder or the decoder; nothing for an encoder that was frozen."""
    state = saved["state_dict"]
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


def checkpoint_of(folder: Path) -> Path:
    """The best checkpoint of a finished run.

    Raises:
        RunError: if there is none.
    """
    run = RunFolder(folder)
    if run.state != "complete":
        raise RunError(
            f"{folder} is no finished run (its state: {run.state}); finish it by the command that "
            "began it, or name one of its checkpoints."
        )
    return run.best_checkpoint


def override(config: dict[str, object], overrides: Sequence[str]) -> DictConfig:
    """A run's configuration with `key=value` changes to keys that it has.

    Raises:
        ConfigError: for another key, or no `=`.
    """
    made = OmegaConf.create(config)
    OmegaConf.set_struct(made, True)
    try:
        made.merge_with_dotlist(list(overrides))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"--set: {str(error).splitlines()[0]}") from error
    return made


def _stack(captions: Sequence[Sequence[list[int]]], device: torch.device) -> Tensor:
    """Ids as (B, N, T), padded."""
    num = max(len(each) for each in captions)
    empty: list[int] = []
    rows = [torch.tensor(c) for each in captions for c in (*each, *[empty] * (num - len(each)))]
    padded = pad_sequence([row.long() for row in rows], batch_first=True)
    return padded.view(len(captions), num, -1).to(device)
