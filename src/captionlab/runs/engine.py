"""One run, from its configuration to its result on disk."""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import platform
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from captionlab import __version__
from captionlab.config import build
from captionlab.data import CaptionDataModule
from captionlab.metrics import CaptionMetrics, MetricName
from captionlab.runs.folder import RunFolder, is_leader
from captionlab.runs.identity import identity, plain_config
from captionlab.training.callbacks import EpochReport, checkpoint_callbacks
from captionlab.training.loggers import MetricsCSV
from captionlab.training.module import CaptioningModule
from captionlab.training.seeding import derive_seed
from captionlab.training.wandb_logger import finish_wandb

log = logging.getLogger(__name__)

OFFICIAL_METRICS: tuple[MetricName, ...] = ("bleu", "meteor", "rouge_l", "cider_d")
NUM_SHUFFLES = 10
_VERSIONS = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "pycocoevalcap")


def execute(config: DictConfig, folder: RunFolder) -> dict[str, Any]:
    """Train, test and score what `config` asks for, going on from the last checkpoint if any.

    Args:
        config: of one run, resolved or resolvable.
        folder: locked by the caller.

    Returns:
        What `result.json` holds; nothing in any but the first process of the run.

    Raises:
        CaptionLabError: for a mistake of the user's; the folder's status says it too.
    """
    if not is_leader():
        return _execute(config, folder)
    exit_code = 1
    folder.set_state("running")
    try:
        folder.claim(plain_config(config), identity(config))
        result = _execute(config, folder)
        folder.set_state("complete")
        exit_code = 0
    except BaseException as error:
        folder.set_state("failed", f"{type(error).__name__}: {error}")
        raise
    finally:
        finish_wandb(exit_code)
    return result


def _execute(config: DictConfig, folder: RunFolder) -> dict[str, Any]:
    _quieten()
    machine = build.Machine.of(config)
    logger = build.build_logger(config, folder.path, folder.path.name) if is_leader() else None
    loggers = [MetricsCSV(folder.metrics_path), *([logger] if logger else [])]
    for each in loggers:
        each.log_hyperparams(plain_config(config))
    callbacks = [
        EpochReport(config.monitor),
        *checkpoint_callbacks(folder.checkpoints, config.monitor),
    ]
    trainer = build.build_trainer(config, machine, loggers, callbacks, folder.path)

    datamodule = build.build_data(config, machine)
    datamodule.prepare_data()
    datamodule.setup()
    for note in datamodule.corpus.notes:
        log.info("note: %s", note)
    if is_leader():
        folder.update_manifest(
            versions={"captionlab": __version__, "python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in _VERSIONS},
            command=sys.argv,
            machine={"device": str(machine.device), "precision": machine.precision},
            corpus=datamodule.corpus.fingerprint,
            features=datamodule.features.manifest["name"],
        )
    module = build.build_module(
        config, datamodule, {"config": plain_config(config), "features": _features(datamodule)}
    )
    last = _read_checkpoint(folder.last_checkpoint)
    if last is None or not last["captionlab"]["finished"]:
        if last is not None:
            log.info("resuming after epoch %d of %s", last["epoch"] + 1, folder.path)
        _keep_freed_memory()
        resume = None if last is None else str(folder.last_checkpoint)
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        last = _read_checkpoint(folder.last_checkpoint)
    assert last is not None
    best = _read_checkpoint(folder.best_checkpoint)
    assert best is not None
    module.load_state_dict(best["state_dict"])

    began = time.perf_counter()
    trainer.test(module, datamodule=datamodule, verbose=False)
    test_seconds = time.perf_counter() - began
    if not is_leader():
        return {}
    predictions = {
        image: module.vocabulary.decode(found.tokens) for image, found in module.hypotheses.items()
    }
    scores, blind = _score(datamodule, predictions, config.seed)
    result = {
        "scores": scores.corpus,
        "missing": scores.missing,
        "blind": blind,
        "distinct_captions": len(set(predictions.values())) / len(predictions),
        "parameters": {
            "encoder": datamodule.features.manifest["encoder_parameters"],
            "decoder": sum(p.numel() for p in module.decoder.parameters()),
        },
        "seconds": {
            "encode": datamodule.features.manifest["encode_seconds"],
            "train": last["captionlab"]["train_seconds"],
            "test": test_seconds,
        },
        "epochs": last["epoch"] + 1,
        "best_epoch": best["epoch"] + 1,
        "best_validation": {config.monitor: _best_score(last)},
        "peak_memory_bytes": _peak_memory_bytes(),
        "num_test_images": len(predictions),
    }
    for each in loggers:
        each.log_metrics(
            {f"test/{name}": value for name, value in scores.corpus.items()}
            | {f"test/blind_{name}": value for name, value in blind.items()}
            | {"epoch": last["epoch"]},
            step=last["global_step"],
        )
        each.save()
    folder.write_result(result, _told(datamodule, module, predictions, scores))
    folder.last_checkpoint.unlink()  # the optimizer's state: nothing goes on from here
    return result


def _score(
    datamodule: CaptionDataModule, predictions: dict[str, str], seed: int
) -> tuple[Any, dict[str, float]]:
    """Official scores of the test, and those of the same captions given to other images.

    A caption depends on nothing but its photo, so decoding photos shuffled among the images gives
    the same captions shuffled; the blind score is the mean over `NUM_SHUFFLES` of them.
    """
    references = datamodule.references("test")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        metrics = CaptionMetrics(references, metrics=OFFICIAL_METRICS, tokenizer="stanford")
        scores = metrics.score(predictions)
    for metric, reason in scores.missing.items():
        log.warning("%s is missing: %s", metric, reason)
    images = list(predictions)
    order = torch.Generator().manual_seed(derive_seed(seed, "blind"))
    total: dict[str, float] = {}
    java_free = [name for name in OFFICIAL_METRICS if name != "meteor"]
    for _ in range(NUM_SHUFFLES):
        # A cycle through all images in random order: none keeps its own photo.
        cycle = torch.randperm(len(images), generator=order).tolist()
        shuffled = {
            images[to]: predictions[images[source]]
            for to, source in zip(cycle, cycle[1:] + cycle[:1], strict=True)
        }
        for name, value in metrics.score(shuffled, metrics=java_free).corpus.items():
            total[name] = total.get(name, 0.0) + value / NUM_SHUFFLES
    return scores, total


def _told(
    datamodule: CaptionDataModule,
    module: CaptioningModule,
    predictions: dict[str, str],
    scores: Any,
) -> list[dict[str, Any]]:
    """One entry per test image: its caption and what it got."""
    row = {image: i for i, image in enumerate(scores.image_ids)}
    return [
        {
            "image_id": image.image_id,
            "caption": predictions[image.image_id],
            "log_probability": module.hypotheses[image.image_id].log_probability,
            "finished": module.hypotheses[image.image_id].finished,
            "scores": {
                name: values[row[image.image_id]] for name, values in scores.per_image.items()
            },
        }
        for image in datamodule.corpus.splits["test"]
    ]


def _features(datamodule: CaptionDataModule) -> dict[str, Any]:
    """What names the frozen encoder in a checkpoint, in place of its weights."""
    keys = ("name", "corpus", "encoder", "preprocessing", "feature_shape")
    return {key: datamodule.features.manifest[key] for key in keys}


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint


def _best_score(checkpoint: dict[str, Any]) -> float | None:
    for state in checkpoint["callbacks"].values():
        if state.get("monitor") and state.get("best_model_score") is not None:
            return float(state["best_model_score"])
    return None


def _peak_memory_bytes() -> int:
    """Of this process and its largest child (Java), resident; an upper bound of their sum."""
    unit = 1 if platform.system() == "Darwin" else 1024
    peaks = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return unit * sum(peak.ru_maxrss for peak in peaks)


def _keep_freed_memory() -> None:
    """Let glibc reuse large blocks: giving each step's back to Linux costs a tenth of its time."""
    if platform.libc_ver()[0] == "glibc":
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**28)):
            ctypes.CDLL(None).mallopt(option, value)  # mmap and trim threshold, top pad


def _quieten() -> None:
    """Silence advice of Lightning's that does not hold here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # its own
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*but it already contains.*")


def result_line(result: dict[str, Any]) -> str:
    """What a run got, in one line; scores x100."""
    scores = result["scores"]
    shown = [f"{name} {100 * value:.1f}" for name, value in scores.items()]
    blind = result["blind"].get("cider_d")
    if blind is not None:
        shown.append(f"blind cider_d {100 * blind:.1f}")
    return "  ".join(shown)
