"""A run as one file: it needs nothing else, and every road that takes a checkpoint takes it."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import get_model

from captionlab.captioner.export import _without_folders, export, read_facts
from captionlab.captioner.exported import FORMAT, write_exported
from captionlab.captioner.load import initialise, load_ensemble, load_run, read_checkpoint
from captionlab.cli import main
from captionlab.errors import CaptionLabError, RunError, StorageError
from captionlab.evaluation.models import captions_of_checkpoint
from captionlab.evaluation.request import Request
from captionlab.evaluation.result import Result
from captionlab.images.pixels import Photos, pixel_batches
from tests.support.results import Results
from tests.support.runs import Place

NOWHERE = ["data.root=/nowhere", "cache_dir=/nowhere", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("exported"))


def pixels_of(place: Place) -> Tensor:
    """The test photos, as the encoder of every run here reads them."""
    photos = [(image.path, None) for image in place.data.corpus.splits["test"]]
    (batch,) = pixel_batches(Photos(photos, place.data.source.preprocessing), 8, num_workers=0)
    return batch


def captions(target: Path, pixels: Tensor, *overrides: str) -> list[tuple[int, ...]]:
    captioner = load_run(target, overrides).captioner
    source: Any = captioner.source
    return [h.tokens for h in captioner.caption(source.encode(pixels))]


@pytest.mark.parametrize(
    "options",
    [
        ["conditioning=par_inject"],
        ["encoder.train=last"],
        ["decoder=transformer", "decoder.num_heads=2"],
        ["decoder=gru", "decoder.tie_embeddings=true"],
    ],
    ids=["random", "trained", "transformer", "tied"],
)
def test_a_file_with_its_encoder_needs_neither_data_nor_weights(
    options: list[str], place: Place, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run, file = place.run(request.node.callspec.id, *options), tmp_path / "model.safetensors"
    facts = export(run, file, with_encoder=True)
    assert facts["encoder_weights"]["included"]
    pixels = pixels_of(place)
    expected = captions(run, pixels)
    assert len(set(expected)) > 1, "captions that could be told from any others"
    assert captions(file, pixels, *NOWHERE) == expected
    again = tmp_path / "again.safetensors"
    export(file, again, with_encoder=True)
    assert captions(again, pixels, *NOWHERE) == expected
    assert read_facts(again)["encoder_weights"] == facts["encoder_weights"]


def test_without_its_encoder_a_file_names_its_weights(place: Place, tmp_path: Path) -> None:
    run, file = place.run("named"), tmp_path / "model.safetensors"
    facts = export(run, file, with_encoder=False)
    assert not facts["encoder_weights"]["included"]
    assert facts["encoder_weights"]["name"] == "random-0-64"
    assert not any(name.startswith("frozen_encoder") for name in load_file(file))
    assert captions(file, pixels_of(place)) == captions(run, pixels_of(place))


def test_a_file_holds_what_its_run_says(place: Place, tmp_path: Path) -> None:
    run, file = place.run("facts"), tmp_path / "model.safetensors"
    (run / "result.json").write_text('{"scores": {"cider_d": 0.5}}')
    (run / "manifest.json").write_text('{"versions": {"torch": "2.14"}, "command": ["run.py"]}')
    export(run / "checkpoints" / "best.ckpt", file, with_encoder=False)
    facts, saved = read_facts(file), read_checkpoint(run / "checkpoints" / "best.ckpt")
    fitted = saved["captionlab"]["features"].pop("calibration")
    kept = facts["features"].pop("calibration")
    assert all(torch.equal(kept[name], value) for name, value in fitted.items())
    folders = str(place.folder / "data")
    for name, value in saved["captionlab"].items():
        text = json.dumps(value).replace(f"{folders}/shapes", "./shapes").replace(folders, "./data")
        assert facts[name] == json.loads(text), name
    assert facts["result"] == {"scores": {"cider_d": 0.5}}
    assert facts["versions"] == {"torch": "2.14"}
    tensors = load_file(file)
    assert tensors.keys() == {*saved["state_dict"], *(f"calibration.{name}" for name in fitted)}
    assert all(torch.equal(tensors[name], value) for name, value in saved["state_dict"].items())


def test_no_folder_of_this_machine_is_in_what_is_handed_on(place: Place, tmp_path: Path) -> None:
    weights = tmp_path / "SECRET" / "WEIGHTS" / "resnet18.pth"  # as an official name is written
    weights.parent.mkdir(parents=True)
    torch.save(get_model("resnet18").state_dict(), weights)
    run = place.run("private", f"encoder.weights={weights.parent}")
    command = ["/home/SECRET/run.py", f"data.root={tmp_path}/SECRET data/flickr8k", "seed=0"]
    (run / "manifest.json").write_text(json.dumps({"command": command}))
    result = Result.read(Results(tmp_path / "results").run("resnet18", "lstm") / "result.json")
    told = replace(
        result, missing={"spice": f"no jar in '{tmp_path}/SECRET/jars' (see /opt/SECRET/x)"}
    )
    (run / "result.json").write_text(json.dumps(told.to_json()))
    file, folder, card = (tmp_path / name for name in ("a.safetensors", "onnx", "card.md"))
    assert main(["export", str(run), str(file), "--with-encoder", f"--card={card}"]) == 0
    assert main(["export", str(run), str(folder), "--format=onnx"]) == 0
    import captionlab

    source = Path(captionlab.__file__).parent
    site = Path(torch.__file__).parents[1]
    for path in (file, card, *folder.iterdir()):
        content = path.read_bytes()
        for secret in ("SECRET", tmp_path, place.folder, Path.home(), source, site):
            assert f"{secret}".encode() not in content, (path.name, secret)
    facts = read_facts(file)
    assert facts["command"] == ["./run.py", "data.root=./flickr8k", "seed=0"]
    assert facts["result"]["missing"] == {"spice": "no jar in './jars' (see ./x)"}
    assert facts["config"]["encoder"]["weights"] == "./WEIGHTS"
    expected = captions(run, pixels_of(place))
    shutil.rmtree(weights.parent)
    assert captions(file, pixels_of(place), *NOWHERE) == expected


def test_the_path_of_weights_that_are_not_in_the_file_is_kept(place: Place, tmp_path: Path) -> None:
    torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    run, file = place.run("by-path", f"encoder.weights={tmp_path}"), tmp_path / "model"
    export(run, file, with_encoder=False)
    assert captions(file, pixels_of(place)) == captions(run, pixels_of(place))


@pytest.mark.parametrize(
    "text", ["https://example.org/a/b.pth", "resnet18/layer4/mean", "val/cider_d", "1/2 of it"]
)
def test_what_is_no_path_stays_as_it_is(text: str) -> None:
    assert _without_folders({"x": [text, f"source={text}"]}) == {"x": [text, f"source={text}"]}


def test_evaluation_ensembles_and_new_runs_take_a_file(place: Place, tmp_path: Path) -> None:
    run, file = place.run("roads"), tmp_path / "model.safetensors"
    export(run, file, with_encoder=True)
    corpus = place.data.corpus
    here = [f"data.root={place.folder}/data/shapes", f"cache_dir={place.folder}/data"]
    written = [
        captions_of_checkpoint(target, Request(overrides=here))
        for target in (run / "checkpoints/best.ckpt", file)
    ]
    assert written[0].captions == written[1].captions
    assert written[0].likelihood == pytest.approx(written[1].likelihood, rel=1e-4)

    ids = [image.image_id for image in corpus.splits["test"]]
    both = load_ensemble([run, file]).captioner.write(corpus, ids)
    alone = load_run(run).captioner.write(corpus, ids)
    assert {i: h.tokens for i, h in both.items()} == {i: h.tokens for i, h in alone.items()}

    decoder = place.captioner("fresh", "seed=3").decoder
    initialise(decoder, place.data.encoder, file, place.data.vocabulary, place.data.features)
    expected = load_run(run).captioner.decoder.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in decoder.state_dict().items())


def test_random_weights_from_a_file_encode_another_corpus_as_another_encoder(
    place: Place, tmp_path: Path
) -> None:
    """The features of weights that were fitted there are not taken for theirs."""
    file = tmp_path / "model.safetensors"
    export(place.run("fitted"), file, with_encoder=True)
    source: Any = load_run(file).captioner.source
    assert source.encoder.fingerprint.startswith(place.data.features["encoder"] + "/fitted-")
    splits = place.data.corpus.splits
    other = replace(place.data.corpus, splits={**splits, "train": splits["train"][:9]})
    assert source.prepare(other)["encoder"] == source.encoder.fingerprint


class Malicious:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.flag,)


def damaged(kind: str, good: bytes, path: Path) -> None:
    """Write a file that is no exported run of this version."""
    if kind == "truncated":
        path.write_bytes(good[:-100])
    elif kind == "header alone":
        path.write_bytes(good[:200])
    elif kind == "one bit":
        path.write_bytes(good[:-50] + bytes([good[-50] ^ 1]) + good[-49:])
    elif kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    elif kind == "foreign metadata":
        save_file({"weight": torch.zeros(3)}, path, {"captionlab": "[1, 2"})
    elif kind == "fields":
        save_file({"weight": torch.zeros(3)}, path, {"captionlab": f'{{"format": {FORMAT}}}'})
    elif kind == "later":
        save_file({"weight": torch.zeros(3)}, path, {"captionlab": '{"format": 99}'})
    elif kind == "other facts":
        length = struct.unpack("<Q", good[:8])[0]
        path.write_bytes(
            good[:8] + good[8 : 8 + length].replace(b"zebra", b"zebrb") + good[8 + length :]
        )
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Malicious(path.with_name("executed"))))
    elif kind == "checkpoint":
        torch.save({"captionlab": Malicious(path.with_name("executed"))}, path)
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        assert kind == "missing"


KINDS = {
    "truncated": "is damaged: it is no whole safetensors file",
    "header alone": "is damaged: it is no whole safetensors file",
    "one bit": "is damaged: its content is not what was written",
    "other facts": "is damaged: its content is not what was written",
    "foreign": "is a safetensors file, but no run that captionlab exported",
    "foreign metadata": "is a safetensors file, but no run that captionlab exported",
    "fields": "is a safetensors file, but no run that captionlab exported",
    "later": "has format 99, and this captionlab reads 1",
    "pickle": "is no checkpoint of captionlab",
    "checkpoint": "is no checkpoint of captionlab",
    "text": "is no checkpoint of captionlab",
    "empty": "is no checkpoint of captionlab",
    "missing": "is no checkpoint of captionlab|does not exist",
}
_FACTS = {"config": {}, "features": {"encoder": "x"}, "vocabulary": ["zebra"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_file_gets_one_line_on_every_road_and_nothing_of_it_is_executed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    write_exported(good, _FACTS, {"decoder.weight": torch.arange(99.0)})
    damaged(kind, good.read_bytes(), bad)
    for road in (read_checkpoint, load_run):
        with pytest.raises((RunError, StorageError), match=KINDS[kind]) as error:
            road(bad)
        assert "\n" not in str(error.value)
    for command in (["inspect", str(bad)], ["export", str(bad), str(tmp_path / "out")]):
        assert main(command) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_exported(tmp_path / "file" / "model", _FACTS, {})


def test_several_runs_are_no_single_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "a", "b", str(tmp_path / "out")]) == 1
    assert "2 runs are an ensemble" in capsys.readouterr().err


def test_a_missing_extra_is_named(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captionlab.captioner import onnx_export

    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    captioner = load_run(place.run("no-onnx")).captioner
    with pytest.raises(CaptionLabError, match=r"needs onnx and onnxscript, .*captionlab\[onnx\]"):
        onnx_export.export_onnx(captioner, tmp_path / "model", {})
