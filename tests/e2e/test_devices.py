"""A training on several devices is the training on one; a killed run resumes to its result."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from captionlab.batches.datamodule import CaptionDataModule
from captionlab.config import build
from captionlab.decoders import Decoder
from captionlab.errors import ConfigError
from captionlab.objectives import scheduled_sampling
from captionlab.objectives.self_critical import SelfCritical
from captionlab.training.sharing import check_sharing
from captionlab.types import Hypothesis, ImageFeatures
from tests.e2e.test_commands import command, read, run, run_folders
from tests.support.configs import checked
from tests.support.processes import elsewhere

OPTIONS = ["encoder=resnet18", "encoder.image_size=32", "search=greedy", "callbacks=none"]
OPTIONS += ["data.num_train=76", "data.num_val=10", "data.num_test=6", "data.image_size=32"]
OPTIONS += ["data.num_workers=0", "data.batch_size=32", "trainer.max_epochs=4"]  # 3 steps each
OPTIONS += ["data.eval_batch_size=3", "search.max_length=6", "decoder.hidden_dim=16"]
OPTIONS += ["trainer.accelerator=cpu", "trainer.precision=32-true"]
OPTIONS += ["decoder.dropout=0", "trainer.checkpoint_every_minutes=null"]
NO_DROPOUT = ["conditioning.dropout=0"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


Trained = tuple[dict[str, Any], dict[str, float]]


def fit(cache: Path, folder: Path, num_devices: int, *overrides: str) -> Trained:
    """Train on so many gloo processes; gives the weights and what was logged last."""
    more = [f"trainer.devices={num_devices}"]
    more += ["+trainer.strategy=ddp_fork"] if num_devices > 1 else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduled_sampling, "draw_words", _likeliest)
        patch.setattr(SelfCritical, "_draw", _by_image)
        config = checked(*OPTIONS, f"cache_dir={cache}", *more, *overrides)
        data = build.build_data(config)
        module = build.build_module(config, data, {})
        trainer = build.build_trainer(config, config["trainer"]["precision"], [], [], folder)
        check_sharing(trainer, module, data.loaders)
        trainer.fit(module, datamodule=CaptionDataModule(data.loaders))
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    return weights, {name: float(value) for name, value in trainer.callback_metrics.items()}


def _likeliest(weights: Tensor, numbers: Tensor | None = None) -> Tensor:
    """Instead of a drawing, which differs between processes."""
    return weights.argmax(-1)


def _by_image(
    self: SelfCritical, decoder: Decoder, features: ImageFeatures
) -> list[list[Hypothesis]]:
    """Captions that depend on the image alone, instead of drawn ones."""
    return [
        [Hypothesis((4 + int(100 * abs(v)) % 9,) * n, 0.0, 0.0, True) for n in range(1, 6)]
        for v in features.pooled.sum(-1).tolist()
    ]


def assert_same_training(
    cache: Path, tmp_path: Path, num_devices: int, *overrides: str, alone: tuple[str, ...]
) -> None:
    """One process and several end with the same weights and scores."""
    one, scores = fit(cache, tmp_path / "one", 1, *alone)
    other, other_scores = elsewhere(fit, cache, tmp_path / "other", num_devices, *overrides)
    for name, value in one.items():
        assert other[name] == pytest.approx(value, abs=1e-5), name  # sums come in another order
    assert other_scores.keys() == scores.keys()
    for name, score in scores.items():
        if not name.endswith("_step"):
            assert other_scores[name] == pytest.approx(score, abs=1e-4), name


CONDITIONINGS = {
    "attention": NO_DROPOUT,
    "attention without a map": [*NO_DROPOUT, "conditioning.feature_dim=null"],
    "dot_attention": NO_DROPOUT,
    "init_inject": NO_DROPOUT,
    "pre_inject": NO_DROPOUT,
    "pre_inject with a learned norm": [*NO_DROPOUT, "conditioning.batch_norm_momentum=0.1"],
    "par_inject": NO_DROPOUT,
    "merge": NO_DROPOUT,
    "built_in": ["decoder=transformer", "decoder.num_heads=2", "decoder.hidden_dim=16"],
}
MERGE = ("conditioning=merge", *NO_DROPOUT, "optimizer=sgd", "optimizer.lr=0.1")


@pytest.mark.parametrize("num_devices", [2, 4])
@pytest.mark.parametrize("kind", CONDITIONINGS)
def test_every_conditioning_trains_the_same(
    kind: str, num_devices: int, cache: Path, tmp_path: Path
) -> None:
    options = (f"conditioning={kind.split()[0]}", *CONDITIONINGS[kind])
    # Small steps: a ReLU near zero may go either way, and its weights a step apart.
    options += ("optimizer=sgd", "optimizer.lr=0.03")
    assert_same_training(cache, tmp_path, num_devices, *options, alone=options)


def test_the_default_optimizer_trains_the_same(cache: Path, tmp_path: Path) -> None:
    # Adam's step has the size of the learning rate even where a gradient is rounding alone: at the
    # drawings' 8e-3 one weight of 33,280 differs by 1.3e-5.
    options = ["optimizer.lr=1e-4", "trainer.gradient_clip_val=0.1"]
    options += NO_DROPOUT
    assert_same_training(cache, tmp_path, 2, *options, alone=options)


OBJECTIVES = {
    "doubly_stochastic": ("conditioning=attention",),
    "cross_entropy": ("conditioning=merge", "objective.label_smoothing=0.1"),
    "scheduled_sampling": ("objective.first_share=0", "objective.last_share=0"),
    "self_critical": ("objective.num_samples=5", "objective.baseline=samples"),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_the_same(objective: str, cache: Path, tmp_path: Path) -> None:
    options = ("conditioning=init_inject", *NO_DROPOUT, "optimizer=sgd", "optimizer.lr=0.1")
    options += (f"objective={objective}", *OBJECTIVES[objective])
    if objective == "scheduled_sampling":
        options += ("objective.decay=linear",)
    assert_same_training(cache, tmp_path, 2, *options, alone=options)


@pytest.mark.parametrize("objective", ["doubly_stochastic", "scheduled_sampling"])
@pytest.mark.parametrize(("num_devices", "num_parts"), [(1, 4), (2, 2)])
def test_accumulated_gradients_train_the_same(
    objective: str,
    num_devices: int,
    num_parts: int,
    cache: Path,
    tmp_path: Path,
) -> None:
    options: tuple[str, ...] = (*NO_DROPOUT, "optimizer=sgd", f"objective={objective}")
    options += ("optimizer.lr=0.1", "trainer.gradient_clip_val=0.1")
    if objective == "scheduled_sampling":
        options += ("objective.decay=linear", "objective.first_share=0", "objective.last_share=0")
    parts = f"+trainer.accumulate_grad_batches={num_parts}"
    assert_same_training(cache, tmp_path, num_devices, *options, parts, alone=options)


def test_an_encoder_that_is_trained_trains_the_same(cache: Path, tmp_path: Path) -> None:
    options = (*MERGE, "encoder.train=last", "trainer.max_epochs=2")
    assert_same_training(cache, tmp_path, 2, *options, alone=options)


def test_half_precision_trains_nearly_the_same(cache: Path, tmp_path: Path) -> None:
    options = (*MERGE, "trainer.precision=bf16-mixed")
    _, one = fit(cache, tmp_path / "one", 1, *options)
    _, other = elsewhere(fit, cache, tmp_path / "other", 2, *options)
    assert other["val/loss"] == pytest.approx(one["val/loss"], rel=0.01)  # bf16 has 8 bits


def test_a_batch_per_device_is_a_larger_batch(cache: Path, tmp_path: Path) -> None:
    larger = (*MERGE, "data.batch_size=16", "data.batch_size_per_device=true")
    assert_same_training(cache, tmp_path, 2, *larger, alone=MERGE)


REFUSED = {
    "data.batch_size=32 cannot be shared out evenly over 3 devices": (3, ()),
    "has 1, too few for 2 devices": (2, ("data.batch_size=4", "data.num_train=77")),
    "compile=true cannot compile the batch norm of 2 devices": (2, ("compile=true",)),
    "accumulate_grad_batches=2 needs the number of words": (
        1,
        ("objective=self_critical", "+trainer.accumulate_grad_batches=2"),
    ),
    "accumulate_grad_batches=2 cannot standardise by the whole batch with a trained encoder": (
        1,
        ("encoder.train=last", "+trainer.accumulate_grad_batches=2"),
    ),
    "with a batch norm behind a layer that is trained": (
        1,
        (
            "conditioning=pre_inject",
            "conditioning.batch_norm_momentum=0.1",
            "+trainer.accumulate_grad_batches=2",
        ),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_not_be_the_same_is_refused(message: str, cache: Path, tmp_path: Path) -> None:
    num_devices, options = REFUSED[message]
    with pytest.raises(ConfigError, match=message) as error:
        fit(cache, tmp_path, num_devices, *options)
    assert "\n" not in str(error.value)


TINY = ("encoder=resnet18", "data.batch_size=4", "decoder.hidden_dim=16", "search=greedy")


def results(folder: Path) -> tuple[str, list[tuple[str, ...]]]:
    """Captions and curves of the only run in a folder."""
    (run_folder,) = run_folders(folder)
    assert read(run_folder / "status.json")["state"] == "complete"
    assert [path.name for path in (run_folder / "checkpoints").iterdir()] == ["best.ckpt"]
    with (run_folder / "metrics.csv").open() as file:
        curves = [(row["train/loss_epoch"], row["val/loss"]) for row in csv.DictReader(file)]
    return (run_folder / "predictions.jsonl").read_text(), curves


FULL_DISK = """
    if len(calls) == 3:
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")
"""
KILL = """
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def _disturbed(disturbance: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in which something happens when a checkpoint is written."""
    code = f"""
import errno, os, signal, sys
from captionlab.training import checkpoints
write, calls = checkpoints._write, []
def disturbed(path, content):
    calls.append(path)
    {disturbance.strip()}
    write(path, content)
checkpoints._write = disturbed
sys.argv = ["run.py", *{command(folder, *arguments)[2:]!r}]
from captionlab.runs.main import main
main()
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_full_disk_and_a_kill_inside_an_epoch_change_nothing(tmp_path: Path) -> None:
    arguments = (*TINY, "trainer.checkpoint_every_steps=2")
    whole = run(tmp_path / "whole", *TINY)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    place = tmp_path / "disturbed"
    full = _disturbed(FULL_DISK, place, *arguments)
    output = full.stdout + full.stderr
    assert full.returncode == 1, output
    assert "last.ckpt cannot be written (No space left on device)" in full.stdout, output
    assert "Traceback" not in output
    assert _disturbed(KILL, place, *arguments).returncode == -signal.SIGKILL
    resumed = run(place, *arguments)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resuming after step" in resumed.stdout, "killed inside an epoch"
    assert results(place) == results(tmp_path / "whole")


def test_the_tasks_of_one_slurm_step_may_be_runs_of_their_own(tmp_path: Path) -> None:
    environment = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "farm",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "2",
        "SLURM_NODEID": "0",
    }
    done = run(tmp_path, *TINY, "trainer.max_epochs=1", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    _, curves = results(tmp_path)
    assert len(curves) == 1


def test_two_processes_of_the_command_are_one_run(tmp_path: Path) -> None:
    several = ("trainer.devices=2", "+trainer.strategy=ddp", "trainer.accelerator=cpu")
    done = run(tmp_path, *TINY, *several, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("4 images per step on 2 devices, learning rate 0.008") == 1
    captions, curves = results(tmp_path)
    assert len(captions.splitlines()) == 12
    assert len(curves) == 1
