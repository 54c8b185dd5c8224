"""Seeds, schedules, curves on disk."""

from __future__ import annotations

import math
import platform
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from captionlab import devices
from captionlab.devices import resolve_precision
from captionlab.errors import ConfigError
from captionlab.images.augmentation import RandomAugmentation
from captionlab.metrics.protocol import Scores
from captionlab.objectives import Mean
from captionlab.seeding import derive_seed, seeded
from captionlab.text import Vocabulary
from captionlab.training.callbacks import LastCheckpoint
from captionlab.training.checkpoints import CheckpointFiles, read_checkpoint
from captionlab.training.loggers import MetricsCSV
from captionlab.training.module import CaptioningModule
from captionlab.training.optimizers import SGD, Adam, AdamW, OptimizerFactory
from captionlab.training.schedules import ConstantSchedule, CosineSchedule, PlateauSchedule
from captionlab.types import CaptionBatch, ImageFeatures, Preprocessing


def test_each_part_draws_from_a_seed_of_its_own() -> None:
    with seeded(0, "decoder"):
        first = torch.rand(3)
    torch.rand(100)  # whatever was built in between
    with seeded(0, "decoder"):
        assert torch.equal(torch.rand(3), first)
    with seeded(0, "conditioning"):
        assert not torch.equal(torch.rand(3), first)
    assert derive_seed(0, "decoder") != derive_seed(1, "decoder")


def test_seeding_a_part_leaves_the_state_outside() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(0, "decoder"):
        torch.rand(7)
    assert torch.equal(torch.rand(2), expected)


def rates(schedule: CosineSchedule | ConstantSchedule, num_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = schedule(optimizer, num_steps)
    found = []
    for _ in range(num_steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def test_the_cosine_rises_then_falls_to_nothing() -> None:
    found = rates(CosineSchedule(warmup_share=0.1), 100)
    assert found[0] == pytest.approx(1 / 11)
    assert max(found) == found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[-1] < 1e-3
    assert set(rates(ConstantSchedule(), 5)) == {1.0}


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (AdamW(0.1, 0.5, (0.8, 0.7)), {"lr": 0.1, "weight_decay": 0.5, "betas": (0.8, 0.7)}),
        (Adam(0.1, (0.8, 0.7)), {"lr": 0.1, "weight_decay": 0, "betas": (0.8, 0.7)}),
        (SGD(0.1, 0.6), {"lr": 0.1, "weight_decay": 0, "momentum": 0.6}),
    ],
    ids=["adamw", "adam", "sgd"],
)
def test_an_optimizer_has_the_options_that_it_was_given(
    factory: OptimizerFactory, expected: dict[str, Any]
) -> None:
    (group,) = factory([{"params": [torch.ones(1, requires_grad=True)]}], None).param_groups
    assert expected.items() <= group.items()


def test_seeding_a_part_leaves_the_cards_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their generators are not put back: a view of a photo would decide the training's dropout."""
    seeded_cards: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded_cards.append)
    with seeded(0, "decoder"):
        first = torch.rand(2)
    photo = torch.zeros(3, 8, 8, dtype=torch.uint8)
    preprocessing = Preprocessing(8, 8, "bilinear", (0.5,) * 3, (0.5,) * 3)
    view = RandomAugmentation(1, 5.0, 0.1, 0.1, 0.0, crop=1.0, colour=0.1, seed=0)
    view(photo, preprocessing, 1, "a.jpg")
    assert not seeded_cards
    torch.manual_seed(derive_seed(0, "decoder"))
    assert torch.equal(torch.rand(2), first)
    assert seeded_cards


def test_auto_precision_is_fp32_where_bf16_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for amx, avx512, intel, expected in (
        (True, True, True, "bf16-mixed"),
        (False, True, True, "32-true"),  # at half the rate of fp32
        (False, True, False, "bf16-mixed"),
        (False, False, False, "32-true"),
    ):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=amx: has)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=avx512: has)
        monkeypatch.setattr(devices, "_is_intel", lambda is_intel=intel: is_intel)
        assert resolve_precision("auto", cpu) == expected
    assert resolve_precision("16-mixed", cpu) == "16-mixed"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    for has, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda has=has: has)
        assert resolve_precision("auto", cpu) == expected


def test_a_resumed_run_keeps_the_earlier_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsCSV(path)
    first.log_metrics({"epoch": 0, "val/loss": 2.0, "train/loss_step": 9.0}, step=10)
    first.log_metrics({"lr": 1.0}, step=11)
    first.save()
    second = MetricsCSV(path)
    second.log_metrics({"epoch": 1, "val/loss": 1.0, "val/bleu_4": 0.5}, step=20)
    second.save()
    assert path.read_text().splitlines() == [
        "epoch,step,val/bleu_4,val/loss",
        "0,10,,2",
        "1,20,0.5,1",
    ]


def test_the_plateau_lowers_after_so_many_epochs_without_a_better_score() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = PlateauSchedule(factor=0.5, patience=2)(optimizer, 0)
    found = []
    for score in (0.1, 0.2, 0.2, 0.2, 0.3, 0.2, 0.3, 0.2, 0.30001, 0.1):
        schedule.step(score)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]


class Flat:
    """Everything around a decoder that never gets better, so that only the schedule acts."""

    def means(self, decoder: torch.nn.Linear, *rest: Any) -> tuple[list[Mean], dict[str, Mean]]:
        return [Mean(decoder(torch.ones(1, 1)).sum(), 1)], {}

    def validate(self, decoder: torch.nn.Linear, batch: CaptionBatch) -> Tensor:
        return torch.zeros(())

    def update(self, *captions: Any) -> None: ...

    def reset(self) -> None: ...

    def compute(self) -> Scores:
        return Scores({"bleu_4": 0.1}, {}, {}, [], {})


def flat_module(schedule: PlateauSchedule | ConstantSchedule) -> CaptioningModule:
    return CaptioningModule(
        encoder=None,
        encoder_lr=0.0,
        decoder=torch.nn.Linear(1, 1),  # type: ignore[arg-type]
        objective=Flat(),  # type: ignore[arg-type]
        validation_search=lambda decoder, features: [],  # type: ignore[arg-type,return-value]
        optimizer=SGD(lr=1.0, momentum=0.0),
        fused=True,
        schedule=schedule,
        vocabulary=Vocabulary(["<pad>", "<start>", "<end>", "<unk>"]),
        validation_metrics=Flat(),  # type: ignore[arg-type]
        monitor="val/bleu_4",
        seed=0,
        identity={},
        compiled=False,
    )


def quiet_trainer(**arguments: Any) -> pl.Trainer:
    """One that writes nothing, on the CPU."""
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **arguments,
        }
    )


def test_every_epoch_and_process_draws_from_a_seed_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = set()
    for seed, epoch, rank in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        module = flat_module(ConstantSchedule())
        module.seed = seed
        monkeypatch.setattr(CaptioningModule, "current_epoch", epoch)
        monkeypatch.setattr(CaptioningModule, "global_rank", rank)
        module.on_train_epoch_start()
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 4


class Sized(Flat):
    """Its loss is the number of images."""

    def means(self, decoder: torch.nn.Linear, *rest: Any) -> tuple[list[Mean], dict[str, Mean]]:
        (loss,), _ = super().means(decoder)
        return [Mean(0 * loss.value + len(rest[0]), 1)], {}


def test_the_loss_of_an_epoch_is_the_mean_over_its_images() -> None:
    module = flat_module(ConstantSchedule())
    module.objective = Sized()  # type: ignore[assignment]
    loader = torch.utils.data.DataLoader([batch(1), batch(3)], batch_size=None)
    quiet_trainer(max_epochs=1, limit_val_batches=0).fit(module, loader)
    assert float(module.mean_train_loss) == pytest.approx((1 * 1 + 3 * 3) / 4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    ("limit", "algorithm", "step"),
    [
        (None, None, 1.0),
        (0.5, None, 0.5 / 2**0.5),
        (0.5, "norm", 0.5 / 2**0.5),
        (0.5, "value", 0.5),
    ],
)
def test_gradients_are_clipped_in_every_precision(
    precision: Any, limit: float | None, algorithm: str | None, step: float
) -> None:
    module = flat_module(ConstantSchedule())
    before = [parameter.detach().clone() for parameter in module.decoder.parameters()]
    quiet_trainer(
        max_steps=1,
        precision=precision,
        gradient_clip_val=limit,
        gradient_clip_algorithm=algorithm,
        limit_val_batches=0,
    ).fit(module, LOADER)
    for parameter, start in zip(module.decoder.parameters(), before, strict=True):
        assert (start - parameter).item() == pytest.approx(step, rel=1e-3)


class Diverges(Flat):
    """Its loss is not finite from the middle of the training on."""

    def __init__(self, value: float) -> None:
        self.value = value

    def means(self, decoder: torch.nn.Linear, *rest: Any) -> tuple[list[Mean], dict[str, Mean]]:
        (loss,), _ = super().means(decoder)
        return [Mean(loss.value * self.value if rest[-1] >= 0.5 else loss.value, 1)], {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_training_that_diverges_ends_before_its_epoch_is_saved(
    value: float, tmp_path: Path
) -> None:
    module = flat_module(ConstantSchedule())
    module.objective = Diverges(value)  # type: ignore[assignment]
    last = tmp_path / "last.ckpt"
    trainer = quiet_trainer(
        max_epochs=4,
        enable_checkpointing=True,
        callbacks=[LastCheckpoint(last, every_minutes=None, every_steps=None)],
        plugins=[CheckpointFiles()],
        limit_val_batches=0,
    )
    with pytest.raises(
        ConfigError, match=r"mean loss of epoch 3 is (nan|-?inf); lower optimizer\.lr"
    ) as error:
        trainer.fit(module, LOADER)
    assert "\n" not in str(error.value)
    assert read_checkpoint(last)["epoch"] == 1, "the last epoch that was finite"


@pytest.mark.parametrize("attempts", [(7,), (3, 7), (1, 2, 4, 7)])
def test_a_plateau_goes_on_where_an_earlier_attempt_stopped(
    attempts: tuple[int, ...], tmp_path: Path
) -> None:
    seen: list[float] = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    for until in attempts:
        module = flat_module(PlateauSchedule(factor=0.5, patience=2))
        last = tmp_path / "last.ckpt"
        quiet_trainer(
            max_epochs=until,
            enable_checkpointing=True,
            callbacks=[Rates(), LastCheckpoint(last, every_minutes=None, every_steps=None)],
            plugins=[CheckpointFiles()],
        ).fit(
            module, LOADER, VALIDATION, ckpt_path=last if last.exists() else None, weights_only=True
        )
    assert seen == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_the_plateau_counts_epochs_that_were_validated() -> None:
    module = flat_module(PlateauSchedule(factor=0.5, patience=2))
    seen: list[float] = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = quiet_trainer(max_epochs=8, check_val_every_n_epoch=2, callbacks=[Rates()])
    trainer.fit(module, LOADER, VALIDATION)
    assert seen == [1, 1, 1, 1, 1, 1, 0.5, 0.5]


def batch(num_images: int) -> CaptionBatch:
    nothing = ImageFeatures(torch.empty(num_images, 0, 0), torch.empty(num_images, 0))
    return CaptionBatch(("image",) * num_images, nothing, torch.empty(num_images, 0, 0))


LOADER = torch.utils.data.DataLoader([batch(1)], batch_size=None)
VALIDATION = torch.utils.data.DataLoader([batch(0)], batch_size=None)
