"""Encoders that are trained together with their decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from captionlab.batches.datamodule import CaptionDataModule
from captionlab.config import build
from captionlab.errors import DataError
from captionlab.images.preprocessing import read_pixels
from captionlab.training.module import CaptioningModule
from captionlab.types import CaptionBatch, PixelBatch
from tests.support.configs import checked

OPTIONS = ["encoder=resnet18", "encoder.stage=null", "encoder.whiten=false"]
OPTIONS += ["encoder.image_size=32", "decoder.hidden_dim=16", "data.min_count=1"]
OPTIONS += ["data.num_train=16", "data.num_val=6", "data.num_test=6", "data.image_size=32"]
OPTIONS += ["data.num_workers=0", "data.batch_size=8", "trainer.max_epochs=2", "search=greedy"]
OPTIONS += ["trainer.accelerator=cpu", "trainer.precision=32-true", "callbacks=none"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained_encoders")


def set_up(
    root: Path, *overrides: str
) -> tuple[dict[str, Any], build.TrainingData, CaptioningModule]:
    config = checked(*OPTIONS, f"cache_dir={root}/data", *overrides)
    data = build.build_data(config)
    return config, data, build.build_module(config, data, {})


def fit(
    root: Path, *overrides: str, resume: Path | None = None, callbacks: tuple[Any, ...] = ()
) -> tuple[CaptioningModule, pl.Trainer]:
    config, data, module = set_up(root, *overrides)
    trainer = build.build_trainer(config, "32-true", [], list(callbacks), root)
    datamodule = CaptionDataModule(data.loaders)
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    return module, trainer


def pixels_of(data: build.TrainingData, image_id: str) -> torch.Tensor:
    (path,) = [image.path for image in data.corpus.images if image.image_id == image_id]
    return read_pixels(path, data.source.preprocessing)


def test_batches_have_the_pixels_that_a_frozen_encoder_was_given(root: Path) -> None:
    options = ("augmentation=flip", "data.group_by_length=true")
    _, frozen, _ = set_up(root, *options)
    _, trained, module = set_up(root, *options, "encoder.train=last")
    mirrored = 0
    for epoch in range(2):
        loaders = [data.loaders.train() for data in (frozen, trained)]
        for loader in loaders:
            loader.steps.sampler.set_epoch(epoch)
        for one, other in zip(*loaders, strict=True):
            assert isinstance(one, CaptionBatch)
            assert isinstance(other, PixelBatch)
            assert one.image_ids == other.image_ids
            assert one.mirrored == other.mirrored
            assert torch.equal(one.tokens, other.tokens)
            with torch.inference_mode():
                seen = module._encode(other)
            assert seen.mirrored == one.mirrored
            torch.testing.assert_close(
                seen.features.grid, one.features.grid.float(), rtol=0, atol=0.02
            )
            plain = torch.stack([pixels_of(trained, image) for image in one.image_ids])
            mirrored += int((plain != other.pixels).flatten(1).any(1).sum())
    assert 0 < mirrored < 32


@pytest.mark.parametrize(
    ("train", "trained"),
    [
        ("last", {"layer4"}),
        ("2", {"layer3", "layer4"}),
        ("all", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_a_step_changes_what_is_trained_and_nothing_else(
    root: Path, train: str, trained: set[str]
) -> None:
    options = (f"encoder.train={train}", "schedule=none")
    _, _, fresh = set_up(root, *options)
    module, _ = fit(root, *options, "+trainer.max_steps=1")
    for name, parameter in fresh.encoder.trunk.named_parameters():
        changed = not torch.equal(parameter, module.encoder.trunk.get_parameter(name))
        assert changed == (name.split(".")[0] in trained), name
    for name, statistic in fresh.encoder.trunk.named_buffers():
        assert torch.equal(statistic, module.encoder.trunk.get_buffer(name)), name
    changes = [
        not torch.equal(v, module.decoder.state_dict()[k])
        for k, v in fresh.decoder.state_dict().items()
    ]
    assert any(changes)


class Rates(Callback):
    """Notes the learning rates of every step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


@pytest.mark.parametrize(
    ("overrides", "lr"), [([], 0.07 / 10), (["encoder.lr=3.0e-4"], 3e-4)], ids=["a tenth", "own"]
)
def test_the_encoder_has_a_learning_rate_of_its_own(
    root: Path, overrides: list[str], lr: float
) -> None:
    rates = Rates()
    options = ("encoder.train=last", "optimizer.lr=0.07", "schedule.warmup_share=0", *overrides)
    fit(root, *options, callbacks=(rates,))
    assert rates.seen[0] == [0.07, pytest.approx(lr)]
    assert len({decoder for decoder, _ in rates.seen}) == 4, "the schedule changes both"
    for decoder, encoder in rates.seen:
        assert encoder / decoder == pytest.approx(lr / 0.07)


def test_a_frozen_encoder_is_no_part_of_the_module(root: Path) -> None:
    _, _, module = set_up(root)
    assert module.encoder is None
    assert not any(name.startswith("encoder") for name in module.state_dict())


@pytest.mark.parametrize("conditioning", ["attention", "pre_inject"])
def test_the_encoder_alone_can_learn_a_batch(root: Path, conditioning: str) -> None:
    """The decoder stays as it was drawn, so whatever is won is won by other features."""
    _, data, module = set_up(root, "encoder.train=all", f"conditioning={conditioning}")
    batch = next(iter(data.loaders.train()))
    optimizer = torch.optim.Adam(module.encoder.trained_parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss, _ = module.objective(module.decoder.eval(), module._encode(batch), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01


def test_the_reward_of_captions_trains_the_encoder_too(root: Path) -> None:
    options = ("encoder.train=last", "objective=self_critical", "+trainer.max_steps=1")
    module, _ = fit(root, *options, "schedule=none")
    _, _, fresh = set_up(root, *options)
    weight = "trunk.layer4.1.conv2.weight"
    assert not torch.equal(
        module.encoder.get_parameter(weight), fresh.encoder.get_parameter(weight)
    )


def test_a_resumed_training_is_one_that_never_stopped(root: Path, tmp_path: Path) -> None:
    options = ("encoder.train=2", "augmentation=strong")
    keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    whole, _ = fit(root, *options, callbacks=(keep,))
    resumed, _ = fit(root, *options, resume=tmp_path / "epoch=0.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_photo_that_cannot_be_read_is_one_line(tmp_path: Path, num_workers: int) -> None:
    set_up(tmp_path)
    (photo,) = tmp_path.glob("data/shapes/*/images/dev_00002.jpg")
    photo.write_bytes(b"")
    with pytest.raises(DataError, match=r"dev_00002\.jpg cannot be read: it is empty") as error:
        fit(tmp_path, "encoder.train=last", f"data.num_workers={num_workers}")
    assert "\n" not in str(error.value)
    _, skipping, _ = set_up(tmp_path, "encoder.train=last", "data.on_bad_image=skip")
    assert sum(map(len, skipping.loaders.evaluation("val"))) == 5
