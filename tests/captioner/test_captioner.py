"""Finished runs that write together, or that another run starts from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torchvision.models import get_model

from captionlab.captioner.captioner import Captioner
from captionlab.captioner.load import initialise, load_ensemble, load_run, override
from captionlab.config import build
from captionlab.config.checks import check_values
from captionlab.corpora import CaptionCorpus
from captionlab.decoders import Conditioning, Decoder, RecurrentDecoder
from captionlab.decoders.cells import Cell
from captionlab.errors import ConfigError, RunError
from captionlab.evaluation.likelihood import perplexity, retrieval, sample
from captionlab.features.source import FeatureSource
from captionlab.options import Count, Derived
from captionlab.runs.folder import RunFolder
from captionlab.types import Hypothesis, ImageFeatures
from tests.support import runs
from tests.support.configs import checked
from tests.support.decoders import WORDS, MakeDecoder, features
from tests.support.runs import Place


def ids_of(corpus: CaptionCorpus) -> list[str]:
    return [image.image_id for image in corpus.splits["test"]]


def start_from(source: Path, decoder: Decoder, data: build.TrainingData) -> None:
    initialise(decoder, data.encoder, source, data.vocabulary, data.features)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("trained"))


def test_an_ensemble_of_copies_writes_what_each_does(place: Place) -> None:
    run, other = place.run("one"), place.run("other", "seed=1", "conditioning=pre_inject")
    corpus = place.data.corpus

    def texts(found: dict[str, Hypothesis]) -> dict[str, tuple[int, ...]]:
        return {image: hypothesis.tokens for image, hypothesis in found.items()}

    ids = ids_of(corpus)
    alone = texts(load_run(run).captioner.write(corpus, ids))
    assert texts(load_ensemble([run, run]).captioner.write(corpus, ids)) == alone
    mixed = load_ensemble([run, other])
    assert texts(mixed.captioner.write(corpus, ids)) != alone
    assert perplexity(mixed.captioner, mixed.tokenizer, corpus, "test") > 1


class NoSource(FeatureSource):
    """Has a device and a number format alone."""

    def read(
        self, corpus: CaptionCorpus, batches: Sequence[Sequence[str]]
    ) -> Iterator[ImageFeatures]:
        raise NotImplementedError


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_captions_are_written_under_autocast_where_the_source_has_a_dtype(
    make_decoder: MakeDecoder, dtype: torch.dtype | None
) -> None:
    under_autocast: list[bool] = []

    def search(*given: Any) -> list[Hypothesis]:
        under_autocast.append(torch.is_autocast_enabled("cpu"))
        return []

    source = NoSource(torch.device("cpu"), dtype)
    Captioner(make_decoder(), WORDS, source, search, 2).caption(features(2))  # type: ignore[arg-type]
    assert under_autocast == [dtype is not None]


def test_drawn_captions_do_not_depend_on_the_batch_size(place: Place) -> None:
    """Neither those of a search nor the samples of an evaluation."""
    run, corpus = place.run("drawn", "search=sample", "search.temperature=1"), place.data.corpus

    def captions(batch_size: int) -> tuple[Any, ...]:
        captioner = load_run(run, [f"data.eval_batch_size={batch_size}"]).captioner
        drawn = captioner.write(corpus, ids_of(corpus))
        samples = sample(captioner, corpus, "test", 2)
        texts = {image: [h.tokens for h in some] for image, some in samples.items()}
        return {image: h.tokens for image, h in drawn.items()}, texts

    assert captions(3) == captions(8)
    assert len(set(captions(2)[0].values())) > 3


def test_runs_of_other_words_or_data_do_not_write_together(place: Place) -> None:
    run = place.run("run")
    words = place.data.vocabulary.to_list()
    with pytest.raises(ConfigError, match="another vocabulary"):
        load_ensemble([run, place.run("fewer", words=words[:-1])])
    elsewhere = place.run(
        "elsewhere", "data.generator_seed=5", f"data.root={place.folder}/x", words=words
    )
    with pytest.raises(ConfigError, match="another data"):
        load_ensemble([run, elsewhere])
    RunFolder(place.folder / "unfinished").set_state("running")
    with pytest.raises(RunError, match="is no finished run"):
        load_ensemble([run, place.folder / "unfinished"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.beam_size=["], r"search\.beam_size must be a whole number .* 1, found \[\."),
        (["search.length_penalty=-1"], r"length_penalty must be a number .* 0, found -1\.0\."),
        (["search.length_penalty=1e-1"], None),
        (["search.length_penalty=abc"], r"length_penalty must be a number .* found abc\."),
        (["search.forbidden_endings=[on,no,a]"], None),
        (["search.min_length=30"], r"min_length must be at most max_length=20"),
        (["search._target_=captionlab.search.Nope"], "Nope cannot be imported"),
        (["search._target_=captionlab.search.SampleSearch"], r"search\.\w+ is missing"),
        (["data.root=2024-99-99"], None),
        (["data.eval_batch_size=0"], r"eval_batch_size must be a whole number of at least 1, f"),
        (["encoder.batch_size=0"], r"encoder\.batch_size must be a whole number of at least 1, f"),
        (["trainer.precision=bf16"], r"precision must be auto, 32-true, .*, found bf16\."),
        (["trainer.precision=32-true", "trainer.accelerator=cpu", "cache_dir=x"], None),
        (["decoder.hidden_dim=64"], "cannot be set for a trained model; allowed are"),
        (["encoder.architecture=resnet34"], "cannot be set for a trained model"),
        (["encoder=resnet18"], "cannot be set for a trained model"),
        (["search.beam=5"], "write KEY=VALUE with a key that the run has"),
        (["search.length_penalty=1", "search.min_length=25", "search.max_length=30"], None),
        (["search._target_=captionlab.search.GreedySearch"], None),
    ],
)
def test_an_override_is_checked_as_the_option_that_it_is(
    overrides: list[str], message: str | None
) -> None:
    config = checked()
    if message is None:
        assert override(config, overrides) != config
        return
    with pytest.raises(ConfigError, match=message) as error:
        override(config, overrides)
    assert "\n" not in str(error.value)


def test_a_decoder_starts_from_a_run_or_a_checkpoint(place: Place) -> None:
    run = place.run("first")
    expected = load_run(run).captioner.decoder.state_dict()
    for source in (run, run / "checkpoints" / "best.ckpt"):
        decoder = place.captioner(f"n{source.name}", "seed=3").decoder
        start_from(source, decoder, place.data)
        for key, value in decoder.state_dict().items():
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
    ours = load_run(place.run(f"ours-{name}")).captioner.decoder
    with pytest.raises(ConfigError, match=message) as error:
        start_from(place.run(name, *overrides), ours, place.data)
    assert "\n" not in str(error.value)


def test_a_trained_encoder_starts_from_frozen_or_trained_weights(place: Place) -> None:
    """From the weights that a frozen one named, or from those that were trained."""
    _, data = place.set_up("encoder.train=last")
    encoder, decoder = data.encoder, place.decoder()
    fresh = {name: value.clone() for name, value in encoder.state_dict().items()}
    frozen, trained = place.run("was-frozen"), place.run("was-trained", "encoder.train=all")
    start_from(frozen, decoder, data)
    assert all(torch.equal(value, fresh[name]) for name, value in encoder.state_dict().items())
    start_from(trained, decoder, data)
    saved = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, saved[f"encoder.{name}"]), name
    assert not torch.equal(encoder.trunk.conv1.weight, fresh["trunk.conv1.weight"])
    assert [p.requires_grad for p in encoder.parameters()].count(True) == 12, "still its last stage"


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
def test_an_encoder_starts_only_from_itself(
    place: Place, theirs: list[str], ours: list[str], message: str, request: Any
) -> None:
    run = place.run(f"theirs-{request.node.callspec.id}", *theirs)
    _, data = place.set_up(*ours)
    with pytest.raises(ConfigError, match=message) as error:
        start_from(run, place.decoder(), data)
    assert "\n" not in str(error.value)


def test_a_trained_encoder_comes_with_its_checkpoint(place: Place, tmp_path: Path) -> None:
    """It encodes any corpus, and needs neither the weights it began with nor a feature store."""
    weights = tmp_path / "weights.pth"
    torch.save(get_model("resnet18").state_dict(), weights)
    run = place.run("own-weights", "encoder.train=last", f"encoder.weights={weights}")
    weights.unlink()
    loaded = load_run(run)
    captioner = loaded.captioner
    stores = set((place.folder / "data" / "features").iterdir())
    splits = place.data.corpus.splits
    corpus = replace(place.data.corpus, splits={**splits, "train": splits["train"][:3]})
    captions = captioner.write(corpus, ids_of(corpus))
    assert list(captions) == ids_of(corpus)
    assert math.isfinite(perplexity(captioner, loaded.tokenizer, corpus, "val"))
    recalls = retrieval(captioner, loaded.tokenizer, corpus, "test", 4)
    assert set(recalls) == {f"recall_at_{k}" for k in (1, 5, 10)}
    assert set((place.folder / "data" / "features").iterdir()) == stores

    both = load_ensemble([run, place.run("beside")]).captioner
    assert len(both.write(place.data.corpus, ids_of(place.data.corpus))) == 8


def test_a_run_is_not_used_with_other_weights_than_it_was_trained_with(
    place: Place, tmp_path: Path
) -> None:
    weights, moved = tmp_path / "weights.pth", tmp_path / "moved.pth"
    torch.save(get_model("resnet18").state_dict(), weights)
    run = place.run("replaced-weights", f"encoder.weights={weights}")
    load_run(run)
    weights.rename(moved)
    torch.save(get_model("resnet18").state_dict(), weights)
    with pytest.raises(ConfigError, match=r"was trained with resnet18/.*weights\.pth is resnet18/"):
        load_run(run)
    load_run(run, [f"encoder.weights={moved}"])


def test_a_run_of_another_vocabulary_is_refused(place: Place) -> None:
    words = place.data.vocabulary.to_list()
    other = place.run("words", words=[*words[:-1], "zebra"])
    ours = load_run(place.run("with-words")).captioner.decoder
    with pytest.raises(ConfigError, match="another vocabulary"):
        start_from(other, ours, place.data)
    (place.folder / "text.ckpt").write_text("no")
    with pytest.raises(RunError, match="is no checkpoint of captionlab"):
        start_from(place.folder / "text.ckpt", ours, place.data)


class BareDecoder(RecurrentDecoder):
    """Of somebody else's package, with few options."""

    def __init__(
        self,
        cell: Cell,
        embedding_dim: Count,
        hidden_dim: Count,
        num_layers: Count,
        conditioning: Conditioning[Any],
        vocabulary_size: Annotated[int, Derived],
    ) -> None:
        dims = embedding_dim, hidden_dim, num_layers
        super().__init__(cell, *dims, 0.0, conditioning, vocabulary_size)


def test_a_decoder_of_ones_own_needs_no_options_but_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("name", "cell", "embedding_dim", "hidden_dim", "num_layers")
    target = f"{BareDecoder.__module__}.BareDecoder"

    def bare(*overrides: str) -> dict[str, Any]:
        config = checked(*overrides)
        own = {name: config["decoder"][name] for name in names}
        config["decoder"] = {"_target_": target, **own}
        check_values(config)
        return config

    monkeypatch.setattr(runs, "checked", bare)
    corpus = place.data.corpus
    captioner = load_run(place.run("bare")).captioner
    assert isinstance(captioner.decoder, BareDecoder)
    assert len(captioner.write(corpus, ids_of(corpus))) == 8
