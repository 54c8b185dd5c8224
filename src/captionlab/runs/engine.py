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
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from captionlab import __version__
from captionlab.batches import CaptionDataModule
from captionlab.captioner.captioner import load_weights
from captionlab.config import build
from captionlab.evaluation.scoring import score_captions, shared_meteor
from captionlab.runs.folder import RunFolder, is_leader
from captionlab.runs.identity import identity, plain_config
from captionlab.training.callbacks import EpochReport, checkpoint_callbacks
from captionlab.training.loggers import MetricsCSV
from captionlab.training.wandb_logger import finish_wandb

log = logging.getLogger(__name__)

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

    keep_freed_memory()
    datamodule = build.build_data(config, machine)
    datamodule.prepare_data()
    _return_freed_memory()
    datamodule.setup()
    if is_leader():
        folder.update_manifest(
            versions={"captionlab": __version__, "python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in _VERSIONS},
            command=sys.argv,
            machine={"device": str(machine.device), "precision": machine.precision},
            corpus=datamodule.corpus.fingerprint,
            features=datamodule.encoded["name"],
        )
    module = build.build_module(
        config, datamodule, {"config": plain_config(config), "features": _features(datamodule)}
    )
    last = _read_checkpoint(folder.last_checkpoint)
    if last is None and config.init_from is not None:
        load_weights(module.decoder, Path(config.init_from), datamodule)
    if last is None or not last["captionlab"]["finished"]:
        if last is not None:
            log.info("resuming after epoch %d of %s", last["epoch"] + 1, folder.path)
        resume = None if last is None else str(folder.last_checkpoint)
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        last = _read_checkpoint(folder.last_checkpoint)
    assert last is not None
    best = _read_checkpoint(folder.best_checkpoint)
    assert best is not None
    module.load_state_dict(best["state_dict"])

    if is_leader():
        shared_meteor()  # loads while the test is decoded
    began = time.perf_counter()
    trainer.test(module, datamodule=datamodule, verbose=False)
    test_seconds = time.perf_counter() - began
    if not is_leader():
        return {}
    predictions = {
        image: module.vocabulary.decode(found.tokens) for image, found in module.hypotheses.items()
    }
    scored = score_captions(
        datamodule.corpus, "test", predictions, truth=datamodule.truth, seed=config.seed
    )
    result = scored.summary() | {
        "parameters": {
            "encoder": datamodule.encoded["encoder_parameters"],
            "encoder_trained": module.encoder.num_trained_parameters if module.encoder else 0,
            "decoder": sum(p.numel() for p in module.decoder.parameters()),
        },
        "seconds": {
            "encode": datamodule.encoded["encode_seconds"],
            "train": last["captionlab"]["train_seconds"],
            "test": test_seconds,
        },
        "epochs": last["epoch"] + 1,
        "best_epoch": best["epoch"] + 1,
        "best_validation": {config.monitor: _best_score(last)},
        "peak_memory_bytes": _peak_memory_bytes(),
    }
    for each in loggers:
        each.log_metrics(
            {f"test/{name}": value for name, value in scored.scores.corpus.items()}
            | {f"test/blind_{name}": value for name, value in scored.blind.items()}
            | {"epoch": last["epoch"]},
            step=last["global_step"],
        )
        each.save()
    for row in (rows := scored.rows()):
        hypothesis = module.hypotheses[row["image_id"]]
        row["log_probability"] = hypothesis.log_probability
        row["finished"] = hypothesis.finished
    folder.write_result(result, rows)
    folder.last_checkpoint.unlink()  # the optimizer's state: nothing goes on from here
    return result


def _features(datamodule: CaptionDataModule) -> dict[str, Any]:
    """What names the encoder in a checkpoint, in place of its weights where it is frozen."""
    keys = ("name", "corpus", "encoder", "preprocessing", "feature_shape")
    return {key: datamodule.encoded[key] for key in keys}


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
    """Of this process and its living children (Java), resident; an upper bound of their sum.

    What the system counts for children has this process in it, out of which they were started.
    """
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for listed in Path("/proc/self/task").glob("*/children"):  # Linux
        for child in listed.read_text().split():
            with suppress(FileNotFoundError):  # it may have ended just now
                status = Path("/proc", child, "status").read_text().splitlines()
                peaks = [line.split()[1] for line in status if line.startswith("VmHWM")]
                peak += sum(1024 * int(kilobytes) for kilobytes in peaks)
    return peak


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks: giving each step's back to Linux costs up to half its time."""
    if platform.libc_ver()[0] == "glibc":
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**28)):
            ctypes.CDLL(None).mallopt(option, value)  # mmap and trim threshold, top pad


def _return_freed_memory() -> None:
    """Give back what the encoder worked in: the decoder's blocks are of other sizes."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _quieten() -> None:
    """Silence advice of Lightning's that does not hold here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # its own
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*but it already contains.*")
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # encoder


def result_line(result: dict[str, Any]) -> str:
    """What a run got, in one line; scores x100."""
    scores = result["scores"]
    shown = [f"{name} {100 * value:.1f}" for name, value in scores.items()]
    blind = result["blind"].get("cider_d")
    if blind is not None:
        shown.append(f"blind cider_d {100 * blind:.1f}")
    return "  ".join(shown)
