"""One run, from its configuration to its result on disk."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from captionlab import __version__
from captionlab.batches.datamodule import CaptionDataModule, sharing_of
from captionlab.captioner.captioner import Captioner
from captionlab.captioner.load import initialise
from captionlab.captioner.parts import build_tokenizer, precision_of
from captionlab.config import build
from captionlab.devices import find_device, hardware
from captionlab.evaluation.result import Prediction, Result, Training
from captionlab.evaluation.scoring import prepare_metrics, score_captions
from captionlab.files import write_atomically
from captionlab.metrics.registry import RANKING, in_order
from captionlab.progress import bar, current_display
from captionlab.progress.terminal import shown_on_terminal
from captionlab.reports.samples import draw_samples
from captionlab.run_files import TRAINED
from captionlab.runs.folder import RunFolder
from captionlab.runs.identity import identity
from captionlab.runs.outcome import outcome_of
from captionlab.runs.place import SweepPlace
from captionlab.runs.process import (
    keep_freed_memory,
    peak_memory_bytes,
    quieten,
    return_freed_memory,
)
from captionlab.runs.ranks import is_leader, rank
from captionlab.runs.stopping import Stopped
from captionlab.training.callbacks import best_checkpoint
from captionlab.training.checkpoints import latest_checkpoint, read_checkpoint
from captionlab.training.epoch_report import EpochReport
from captionlab.training.loggers import MetricsCSV, OutcomeLogger, set_rank
from captionlab.training.module import CaptioningModule
from captionlab.training.sharing import check_sharing
from captionlab.training.wandb_logger import ending_wandb
from captionlab.types import Hypothesis

log = logging.getLogger(__name__)

Config = Mapping[str, Any]
_VERSIONS = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "pycocoevalcap")


def execute(config: Config, folder: RunFolder) -> Result | None:
    """Train, test and score what `config` asks for, from the last checkpoint on if there is one.

    Args:
        config: of one run, as `config.checks.check` gives it.
        folder: locked by the caller, who writes its state.

    Returns:
        The result; None in any but the first process of the run.

    Raises:
        CaptionLabError: for a mistake of the user's.
    """
    if not is_leader(config["trainer"]):
        logging.getLogger().setLevel(logging.WARNING)  # the leader has said the rest
        return _execute(config, folder)
    log.info("run %s", folder.path)
    with ending_wandb(), _shown(config):
        folder.claim(config, identity(config))
        return _execute(config, folder)


def _shown(config: Config) -> AbstractContextManager[None]:
    """Bars on a terminal, which say how far the sweep is, too."""
    if not config["trainer"]["enable_progress_bar"]:
        return nullcontext()
    place = SweepPlace.of_this_process()
    return shown_on_terminal(None if place is None else place.header)


def _execute(config: Config, folder: RunFolder) -> Result | None:
    quieten()
    leads = is_leader(config["trainer"])
    set_rank(rank(config["trainer"]))
    first = find_device(config["trainer"]["accelerator"], config["trainer"]["devices"])
    precision = precision_of(config, first)  # of all processes
    loggers = _loggers(config, folder)
    monitor = config["monitor"]
    callbacks = [
        EpochReport(monitor, current_display()),
        best_checkpoint(folder.checkpoints, monitor),
    ]
    trainer = build.build_trainer(config, precision, loggers, callbacks, folder.path)
    device = trainer.strategy.root_device  # of this process
    config_here = {**config, "trainer": {**config["trainer"], "precision": precision}}
    sizes = config["data"]["batch_size"], config["data"].get("batch_size_per_device", False)
    sharing_of(trainer).images_per_step(*sizes)  # refused before an hour of encoding
    keep_freed_memory()
    data = build.build_data(config_here, device)
    return_freed_memory()
    keep_num_threads(folder)
    if leads:
        formats = number_formats(folder, precision, hardware(device))
        folder.update_manifest(
            **_made_with(device, formats, trainer.world_size),
            corpus=data.corpus.fingerprint,
            features=data.features["name"],
            encode_dtype=data.features.get("encode_dtype"),  # of a store, perhaps another's
        )
    facts = {"config": config, "features": _named(data.features)}
    module = build.build_module(config_here, data, facts)
    last, best = _train(config, folder, data, module, trainer)
    if not config["test"]:
        _leave_untested(folder, leads)
        return None
    module.load_state_dict(best["state_dict"])
    if leads:
        prepare_metrics()  # they load while the test is decoded
    began = time.perf_counter()
    test_images = [image.image_id for image in data.corpus.splits["test"]]
    captioner = build.build_captioner(config, data, module)
    hypotheses = _write(captioner, data, test_images)
    test_seconds = time.perf_counter() - began
    if not leads:
        return None
    training = Training(
        parameters={
            "encoder": data.features["encoder_parameters"],
            "encoder_trained": data.encoder.num_trained_parameters,
            "decoder": sum(p.numel() for p in module.decoder.parameters()),
        },
        seconds={
            "encode": data.features["encode_seconds"],
            "train": last["captionlab"]["train_seconds"],
            "test": test_seconds,
        },
        epochs=last["epoch"] + 1,
        best_epoch=best["epoch"] + 1,
        best_validation={monitor: _best_score(last)},
        peak_memory_bytes=peak_memory_bytes(),
    )
    result, predictions = _score(config, data, hypotheses)
    of_encoder = [build.RANDOM_WEIGHTS] if data.encoder.has_random_weights else []
    result = replace(result, training=training, warnings=[*result.warnings, *of_encoder])
    title = f"{folder.path.name}: {result_line(result)}"
    samples = draw_samples(title, data.corpus.splits["test"], predictions, config["seed"])
    write_atomically(folder.samples_path, samples)
    folder.write_result(result, predictions)
    _log_scores(loggers, result, last)
    for logger in loggers:
        if isinstance(logger, OutcomeLogger):
            step = last["global_step"]
            args = folder, captioner, data.corpus, result, predictions, logger.num_photos, step
            logger.log_outcome(outcome_of(*args))
    return result


def _score(
    config: Config, data: build.TrainingData, hypotheses: Mapping[str, Hypothesis]
) -> tuple[Result, list[Prediction]]:
    """Scores of the test captions, and each caption with its own."""
    captions = {image: data.vocabulary.decode(h.tokens) for image, h in hypotheses.items()}
    with bar("scoring captions", None, ""):
        result, predictions = score_captions(
            data.corpus,
            "test",
            captions,
            truth=data.dataset.truth,
            seed=config["seed"],
            caption_tokenizer=build_tokenizer(config),
        )
    own = [hypotheses[prediction.image_id] for prediction in predictions]
    return result, [
        replace(p, log_probability=h.log_probability, finished=h.finished)
        for p, h in zip(predictions, own, strict=True)
    ]


def _train(
    config: Config,
    folder: RunFolder,
    data: build.TrainingData,
    module: CaptioningModule,
    trainer: pl.Trainer,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit the module, from the last checkpoint on; gives the last and the best checkpoint."""
    checkpoints = (folder.last_checkpoint, folder.previous_checkpoint)
    path, last = latest_checkpoint(*checkpoints) or (None, None)
    if last is None and config["init_from"] is not None:
        source = Path(config["init_from"])
        initialise(module.decoder, data.encoder, source, data.vocabulary, data.features)
    if last is None or not last["captionlab"]["finished"]:
        if last is not None:
            log.info("resuming after %s of %s", _progress(last), folder.path)
        check_sharing(trainer, module, data.loaders)
        datamodule = CaptionDataModule(data.loaders)
        trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
        last = read_checkpoint(folder.last_checkpoint)
    return last, read_checkpoint(folder.best_checkpoint)


def _leave_untested(folder: RunFolder, leads: bool) -> None:
    """End the first process of a run before its test, as a stopped run."""
    if leads:
        log.info("%s (test=false)", TRAINED)
        raise Stopped(TRAINED, 0)


def _progress(checkpoint: Mapping[str, Any]) -> str:
    """How far a training was when it was saved."""
    epoch, step = checkpoint["epoch"] + 1, checkpoint["global_step"]
    is_inside = "random_state" in checkpoint["captionlab"]
    return f"step {step}, in epoch {epoch}," if is_inside else f"epoch {epoch}"


def _write(
    captioner: Captioner, data: build.TrainingData, images: Sequence[str]
) -> dict[str, Hypothesis]:
    """Captions of all images, shared out over the run's processes."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return captioner.write(data.corpus, images)
    rank, num_ranks = distributed.get_rank(), distributed.get_world_size()
    parts: list[Any] = [None] * num_ranks
    distributed.all_gather_object(parts, captioner.write(data.corpus, images[rank::num_ranks]))
    return {image: caption for part in parts for image, caption in part.items()}


def _loggers(config: Config, folder: RunFolder) -> list[Logger]:
    loggers: list[Logger] = [MetricsCSV(folder.metrics_path)]
    leads = is_leader(config["trainer"])
    logger = build.build_logger(config, folder.path, folder.path.name) if leads else None
    if logger is not None:
        loggers.append(logger)
    for each in loggers:
        each.log_hyperparams(dict(config))
    return loggers


def _log_scores(loggers: Sequence[Logger], result: Result, last: Mapping[str, Any]) -> None:
    scores = {f"test/{name}": value for name, value in result.scores.items()}
    blind = {f"test/blind_{name}": value for name, value in result.blind.items()}
    for logger in loggers:
        logger.log_metrics({**scores, **blind, "epoch": last["epoch"]}, step=last["global_step"])
        logger.save()


def keep_num_threads(folder: RunFolder) -> None:
    """Compute with as many threads as where the run began: sums depend on their number."""
    here = torch.get_num_threads()
    num_threads = folder.manifest.get("machine", {}).get("num_threads", here)
    if num_threads != here:
        log.info("computing with %d thread(s), as where the run began, not %d", num_threads, here)
        torch.set_num_threads(num_threads)


def number_formats(folder: RunFolder, precision: str, processor: str) -> str:
    """Say in which number format a run computes, and where it began in another.

    Returns:
        The formats in their order, such as `bf16-mixed, then 32-true`.
    """
    log.info("computing in %s on %s", precision, processor)
    machine = folder.manifest.get("machine", {})
    earlier = str(machine.get("precision", precision))
    if earlier.rpartition(", then ")[2] == precision:
        return earlier
    log.warning(
        "this run began in %s on %s and resumes in %s, which trainer.precision=auto selects here; "
        "to keep one number format, set trainer.precision explicitly.",
        earlier,
        machine.get("hardware"),
        precision,
    )
    return f"{earlier}, then {precision}"


def _made_with(device: torch.device, precision: str, num_devices: int) -> dict[str, Any]:
    """Versions, commit, command and hardware, for the manifest."""
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return {
        "versions": {"captionlab": __version__, "python": platform.python_version()} | versions,
        "commit": _commit(),
        "command": sys.argv,
        "machine": {
            "device": str(device),
            "num_devices": num_devices,
            "precision": precision,
            "num_threads": torch.get_num_threads(),
            "hardware": hardware(device),
        },
    }


def _commit() -> str | None:
    """The commit of a checkout, with `-dirty` where files differ from it; None for a package."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here
        return None


def _named(features: Mapping[str, Any]) -> dict[str, Any]:
    """What names the encoder in a checkpoint, in place of its weights where it is frozen."""
    keys = ("name", "corpus", "encoder", "preprocessing", "feature_shape", "calibration")
    return {key: features[key] for key in keys}


def _best_score(checkpoint: Mapping[str, Any]) -> float | None:
    for state in checkpoint["callbacks"].values():
        if state.get("monitor") and state.get("best_model_score") is not None:
            return float(state["best_model_score"])
    return None


def result_line(result: Result) -> str:
    """What a run got, in one line; scores as tables show them."""
    shown = {score: result.scores[score.name] for score in in_order(list(result.scores))}
    parts = [f"{score.title} {score.scale * value:.1f}" for score, value in shown.items()]
    ranking = [score for score in shown if score.name == RANKING]
    blind = [(score, result.blind[RANKING]) for score in ranking if RANKING in result.blind]
    parts += [f"blind {score.title} {score.scale * value:.1f}" for score, value in blind]
    return "  ".join(parts)
