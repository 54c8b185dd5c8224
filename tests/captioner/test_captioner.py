"""Finished runs that write together, or that another run goes on from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torchvision.models import get_model

from captionlab.batches import CaptionDataModule
from captionlab.captioner.captioner import TrainedEnsemble, TrainedModel, load_weights
from captionlab.config import build
from captionlab.config.schema import register_schemas
from captionlab.decoders import Decoder
from captionlab.errors import ConfigError, RunError
from captionlab.images.preprocessing import normalise
from captionlab.runs.folder import RunFolder
from captionlab.runs.identity import plain_config, register_resolver
from captionlab.types import Hypothesis

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = ["encoder=resnet18", "encoder.image_size=64", "data.num_workers=0"]
OPTIONS += ["data.num_train=24", "data.num_val=8", "data.num_test=8", "data.image_size=32"]
SMALL = ["decoder.hidden_dim=8", "decoder.embedding_dim=6"]

register_schemas()
register_resolver()


class Place:
    """Makes runs that look finished, their weights fresh, on one small data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _, self.datamodule = self.set_up()

    def decoder(self) -> Decoder:
        config, datamodule = self.set_up()
        return build.build_decoder(config, datamodule.feature_shape, len(datamodule.vocabulary))

    def run(self, name: str, *overrides: str, words: list[str] | None = None) -> Path:
        config, datamodule = self.set_up(*overrides)
        vocabulary = words or datamodule.vocabulary.to_list()
        decoder = build.build_decoder(config, datamodule.feature_shape, len(vocabulary))
        with torch.no_grad():  # larger than fresh, so that captions differ
            for parameter in decoder.parameters():
                parameter.mul_(3)
        told = {
            "config": plain_config(config),
            "features": {
                key: datamodule.encoded[key] for key in ("corpus", "encoder", "preprocessing")
            },
            "vocabulary": vocabulary,
        }
        folder = RunFolder(self.folder / name)
        folder.checkpoints.mkdir(parents=True)
        folder.set_state("complete")
        state = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
        if datamodule.encoder is not None:  # as if it had been trained
            for key, value in datamodule.encoder.state_dict().items():
                state[f"encoder.{key}"] = value * 1.1 if key.endswith("weight") else value
        torch.save({"captionlab": told, "state_dict": state}, folder.best_checkpoint)
        return folder.path

    def set_up(self, *overrides: str) -> tuple[DictConfig, CaptionDataModule]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*OPTIONS, *SMALL, f"cache_dir={self.folder}/data", *overrides]
            config = compose("config", overrides=options)
        datamodule = build.build_data(config, build.Machine.of(config))
        datamodule.prepare_data()
        datamodule.setup()
        return config, datamodule


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("trained"))


def test_an_ensemble_of_copies_writes_what_each_does(place: Place) -> None:
    run, other = place.run("one"), place.run("other", "seed=1", "conditioning=pre_inject")
    corpus = place.datamodule.corpus

    def texts(found: dict[str, Hypothesis]) -> dict[str, tuple[int, ...]]:
        return {image: hypothesis.tokens for image, hypothesis in found.items()}

    alone = texts(TrainedModel(run / "checkpoints" / "best.ckpt").write(corpus, "test"))
    assert texts(TrainedEnsemble([run, run]).write(corpus, "test")) == alone
    mixed = TrainedEnsemble([run, other])
    assert texts(mixed.write(corpus, "test")) != alone
    assert mixed.perplexity(corpus, "test") > 1


def test_runs_of_other_words_or_data_do_not_write_together(place: Place) -> None:
    run = place.run("run")
    words = place.datamodule.vocabulary.to_list()
    with pytest.raises(ConfigError, match="another vocabulary"):
        TrainedEnsemble([run, place.run("fewer", words=words[:-1])])
    elsewhere = place.run(
        "elsewhere", "data.generator_seed=5", f"data.root={place.folder}/x", words=words
    )
    with pytest.raises(ConfigError, match="another data"):
        TrainedEnsemble([run, elsewhere])
    RunFolder(place.folder / "unfinished").set_state("running")
    with pytest.raises(RunError, match="is no finished run"):
        TrainedEnsemble([run, place.folder / "unfinished"])


def test_a_decoder_goes_on_from_a_run_or_a_checkpoint(place: Place) -> None:
    run = place.run("first")
    expected = TrainedModel(run / "checkpoints" / "best.ckpt").decoder.state_dict()
    for source in (run, run / "checkpoints" / "best.ckpt"):
        decoder = TrainedModel(place.run(f"n{source.name}", "seed=3") / "checkpoints/best.ckpt")
        load_weights(decoder.decoder, source, place.datamodule)
        for key, value in decoder.decoder.state_dict().items():
            assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("hidden", ["decoder.hidden_dim=9"], r"other sizes: .* is \[.*\] there and \[.*\] in this"),
        ("gru", ["decoder=gru"], "other sizes"),
        ("pre", ["conditioning=pre_inject"], "other sizes: .* is absent there"),
        ("encoder", ["encoder=resnet34"], "another encoder"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    place: Place, name: str, overrides: list[str], message: str
) -> None:
    ours = TrainedModel(place.run(f"ours-{name}") / "checkpoints" / "best.ckpt").decoder
    with pytest.raises(ConfigError, match=message) as error:
        load_weights(ours, place.run(name, *overrides), place.datamodule)
    assert "\n" not in str(error.value)


def test_a_trained_encoder_goes_on_from_where_it_is(place: Place) -> None:
    """From the weights that a frozen one named, or from those that were trained."""
    _, datamodule = place.set_up("encoder.train=last")
    encoder, decoder = datamodule.encoder, place.decoder()
    fresh = {name: value.clone() for name, value in encoder.state_dict().items()}
    frozen, trained = place.run("was-frozen"), place.run("was-trained", "encoder.train=all")
    load_weights(decoder, frozen, datamodule)
    assert all(torch.equal(value, fresh[name]) for name, value in encoder.state_dict().items())
    load_weights(decoder, trained, datamodule)
    saved = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, saved[f"encoder.{name}"]), name
    assert not torch.equal(encoder.trunk.conv1.weight, fresh["trunk.conv1.weight"])
    assert [p.requires_grad for p in encoder.parameters()].count(True) == 15, "still its last stage"


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (["encoder.train=last"], [], "has trained its encoder, which is frozen in this run; set"),
        (["encoder.image_size=72"], ["encoder.train=last"], "at 72 pixels, this run has .* 64 p"),
        (["encoder.init_seed=1"], ["encoder.train=last"], "has another encoder"),
        (["encoder.grid_size=3"], ["encoder.train=last"], "has another encoder"),
    ],
    ids=["frozen", "size", "weights", "grid"],
)
def test_an_encoder_goes_on_only_from_itself(
    place: Place, theirs: list[str], ours: list[str], message: str, request: Any
) -> None:
    run = place.run(f"theirs-{request.node.callspec.id}", *theirs)
    _, datamodule = place.set_up(*ours)
    with pytest.raises(ConfigError, match=message) as error:
        load_weights(place.decoder(), run, datamodule)
    assert "\n" not in str(error.value)


def test_a_trained_encoder_comes_with_its_checkpoint(place: Place, tmp_path: Path) -> None:
    """It encodes any corpus, and needs neither the weights it began with nor a feature store."""
    weights = tmp_path / "weights.pth"
    torch.save(get_model("resnet18").state_dict(), weights)
    run = place.run("own-weights", "encoder.train=last", f"encoder.weights={weights}")
    weights.unlink()
    model = TrainedModel(run / "checkpoints" / "best.ckpt")
    stores = set((place.folder / "data" / "features").iterdir())
    splits = place.datamodule.corpus.splits
    corpus = replace(place.datamodule.corpus, splits={**splits, "train": splits["train"][:3]})
    found = model.write(corpus, "test")
    assert list(found) == [image.image_id for image in corpus.splits["test"]]
    assert math.isfinite(model.perplexity(corpus, "val"))
    assert set(model.retrieval(corpus, "test", 4)) == {f"recall_at_{k}" for k in (1, 5, 10)}
    assert set((place.folder / "data" / "features").iterdir()) == stores

    pixels = next(place.set_up("encoder.train=last")[1].read_pixels(corpus, found, 8))
    search = build.build_search(model.config, model.vocabulary)
    with torch.inference_mode(), model.autocast():
        features = model.encoder(normalise(pixels, model.encoder.preprocessing))
        alone = search(model.decoder, features.to(torch.float32))
    assert [hypothesis.tokens for hypothesis in alone] == [h.tokens for h in found.values()]

    both = TrainedEnsemble([run, place.run("beside")])
    assert len(both.write(place.datamodule.corpus, "test")) == 8


def test_a_run_of_another_vocabulary_is_not_gone_on_from(place: Place) -> None:
    words = place.datamodule.vocabulary.to_list()
    other = place.run("words", words=[*words[:-1], "zebra"])
    ours = TrainedModel(place.run("with-words") / "checkpoints" / "best.ckpt").decoder
    with pytest.raises(ConfigError, match="another vocabulary"):
        load_weights(ours, other, place.datamodule)
    (place.folder / "text.ckpt").write_text("no")
    with pytest.raises(RunError, match="is no checkpoint of captionlab"):
        load_weights(ours, place.folder / "text.ckpt", place.datamodule)
