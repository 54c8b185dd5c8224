"""A finished run as ONNX files, with a script that captions photos by them."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captionlab.captioner.captioner import Captioner
from captionlab.captioner.export import encoder_of
from captionlab.decoders import Decoder, DecoderState, PreparedImage
from captionlab.encoders import Encoder
from captionlab.errors import ConfigError, RunError, StorageError
from captionlab.features.source import EncoderFeatures
from captionlab.files import write_json
from captionlab.images.preprocessing import normalise
from captionlab.search import BeamSearch, GreedySearch, Search
from captionlab.types import START_ID, ImageFeatures

_FILES = ("caption.py", "captioner.json", "encoder.onnx", "start.onnx", "step.onnx")
_OF_RUN = ("config", "features", "result", "versions", "command")
_OF_CAPTIONER = ("vocabulary", "encoder_weights")
_BEAM: dict[str, Any] = {  # of a run that writes greedily
    "beam_size": 3,
    "length_penalty": 0.7,
    "min_length": 0,
    "block_ngrams": None,
    "forbidden_endings": [],
}


@torch.no_grad()
def export_onnx(captioner: Captioner, folder: Path, facts: Mapping[str, Any]) -> list[Path]:
    """Write encoder, decoder, settings and script; computed in float32, one photo at a time.

    Args:
        captioner: of one run; moved to the CPU.
        folder: gets `encoder.onnx`, `start.onnx`, `step.onnx`, `captioner.json`, `caption.py`.
        facts: of the run, for whoever looks into the folder; see `export.read_facts`.

    Returns:
        The files.

    Raises:
        ConfigError: if the search is neither greedy nor beam search, a photo is resized by other
            than bilinear or bicubic interpolation, or the extra `onnx` is not installed.
        StorageError: if the folder cannot be written.
    """
    search = _search_settings(captioner.search)
    source = captioner.source
    assert isinstance(source, EncoderFeatures)
    preprocessing = source.preprocessing
    if preprocessing.interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(
            f"this encoder's photos are resized by {preprocessing.interpolation} interpolation; "
            "--format onnx knows bilinear and bicubic. Export without --format."
        )
    _require_onnx()
    settings = {
        "preprocessing": asdict(preprocessing),
        "search": search,
        "vocabulary": captioner.vocabulary.to_list(),
        "encoder_weights": facts.get("encoder_weights", {}),
        "run": {name: facts[name] for name in _OF_RUN if facts.get(name) is not None},
    }
    encoder = _EncoderGraph(encoder_of(captioner, with_weights=True).cpu(), source.trained)
    size = preprocessing.image_size
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.zeros(1, 3, size, size, dtype=torch.uint8)
        _save(encoder, (pixels,), ["pixels"], ["grid", "pooled"], folder / "encoder.onnx")
        export_decoder(captioner.decoder.cpu(), encoder(pixels), folder)
        write_json(folder / "captioner.json", settings)
        shutil.copyfile(Path(__file__).with_name("onnx_caption.py"), folder / "caption.py")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror or error}).") from error
    return [folder / name for name in _FILES]


def read_onnx(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """What `export_onnx` wrote: the run's facts, as `export.read_facts` gives them, and the files.

    Raises:
        RunError: if the folder holds something else.
        StorageError: if a file of it is missing.
    """
    try:
        settings = json.loads((folder / "captioner.json").read_text(encoding="utf-8"))
        facts = {**settings["run"], **{name: settings[name] for name in _OF_CAPTIONER}}
        _ = facts["config"], facts["features"]
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{folder}/captioner.json is none of this captionlab's; make the folder by "
            "`captionlab export RUN FOLDER --format onnx`."
        ) from error
    files = [folder / name for name in _FILES]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise StorageError(f"{folder} lacks {', '.join(missing)}; export the run again.")
    return facts, files


@torch.no_grad()
def export_decoder(decoder: Decoder, features: tuple[Tensor, Tensor], folder: Path) -> None:
    """Write `start.onnx` and `step.onnx` of a decoder in evaluation mode.

    Args:
        decoder: on the CPU.
        features: grid and pooled of one image, of the sizes that the decoder reads.
        folder: exists.
    """
    state = decoder.start(ImageFeatures(*features))
    image = [f"image_{i}" for i in range(len(_tensors(state.image)))]
    memory = [f"memory_{i}" for i in range(len(state.memory))]
    _save(_Start(decoder), features, ["grid", "pooled"], [*image, *memory], folder / "start.onnx")
    # Two words of three beams: an exporter takes sizes of 0 and 1 for constants.
    token = torch.full((3,), START_ID)
    state = decoder.select(state, torch.zeros(3, dtype=torch.int64))
    for _ in range(2):
        _, state = decoder.step(token, state)
    some = torch.export.Dim.DYNAMIC
    free = tuple({1: some, **({2: some} if part.dim() == 4 else {})} for part in state.memory)
    _save(
        _Step(decoder, state.image),
        (token, _tensors(state.image), state.memory),
        ["token", *image, *memory],
        ["log_probabilities", *(f"new_{name}" for name in memory)],
        folder / "step.onnx",
        dynamic_shapes=({0: some}, [None for _ in image], free),
    )


class _EncoderGraph(nn.Module):
    """From pixels, uint8 (1, 3, S, S), to the features that the decoder was trained on."""

    def __init__(self, encoder: Encoder, trained: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.trained = trained

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(normalise(pixels, self.encoder.preprocessing))
        if not self.trained:  # rounded, as stored features are
            features = features.to(torch.float16).to(torch.float32)
        return features.grid, features.pooled


class _Start(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, grid: Tensor, pooled: Tensor) -> tuple[Tensor, ...]:
        state = self.decoder.start(ImageFeatures(grid, pooled))
        return (*_tensors(state.image), *state.memory)


class _Step(nn.Module):
    """One step of K captions of one image, whose tensors come one by one."""

    def __init__(self, decoder: Decoder, image: PreparedImage) -> None:
        super().__init__()
        self.decoder = decoder
        self.image = image  # for its structure

    def forward(
        self, token: Tensor, image: list[Tensor], memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        tensors = iter(image)
        kind: Any = type(self.image)
        values = [getattr(self.image, field.name) for field in fields(self.image)]
        parts = [
            tuple(next(tensors) for _ in v) if isinstance(v, tuple) else next(tensors)
            for v in values
        ]
        log_probs, state = self.decoder.step(token, DecoderState(kind(*parts), memory))
        return (log_probs, *state.memory)


def _tensors(image: PreparedImage) -> list[Tensor]:
    values = [getattr(image, field.name) for field in fields(image)]
    return [one for value in values for one in (value if isinstance(value, tuple) else (value,))]


def _save(
    module: nn.Module,
    inputs: tuple[Any, ...],
    input_names: list[str],
    output_names: list[str],
    path: Path,
    **options: Any,
) -> None:
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=input_names,
            output_names=output_names,
            dynamo=True,
            verbose=False,
            **options,
        )
    assert program is not None
    graph: Any
    for graph in (program.model.graph, *program.model.functions.values()):
        for node in graph.all_nodes():  # by which lines of which files it was made
            node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    program.save(path)


def _search_settings(search: Search) -> dict[str, Any]:
    """Name and options of a search that `caption.py` does."""
    if type(search) is GreedySearch:
        return {"name": "greedy", "max_length": search.max_length, **_BEAM}
    if type(search) is BeamSearch:
        return {
            "name": "beam",
            "max_length": search.max_length,
            "beam_size": search.beam_size,
            "length_penalty": search.length_penalty,
            "min_length": search.rules.min_length,
            "block_ngrams": search.rules.block_ngrams,
            "forbidden_endings": list(search.rules.forbidden_endings),
        }
    raise ConfigError(
        f"this run writes by {type(search).__name__}; --format onnx knows greedy and beam search. "
        "Choose one by --set search._target_=captionlab.search.GreedySearch, or export without "
        "--format."
    )


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--format onnx needs {' and '.join(missing)}, not installed here; run "
            "`python -m pip install 'captionlab[onnx]'`."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about its own inside."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(action="ignore"):
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
