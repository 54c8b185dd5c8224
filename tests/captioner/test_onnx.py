"""ONNX files write what the run writes, with nothing but numpy, onnxruntime and Pillow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captionlab.captioner.load import load_run
from captionlab.captioner.onnx_caption import Captioner, read_photo, to_pixels
from captionlab.captioner.onnx_export import _search_settings, export_decoder, export_onnx
from captionlab.decoders import Decoder
from captionlab.errors import ConfigError
from captionlab.images.augmentation import plain
from captionlab.images.photos import read_image
from captionlab.search import BeamSearch, GreedySearch, Search
from captionlab.types import Hypothesis, ImageFeatures, Preprocessing
from tests.support.decoders import DECODERS, WORDS, MakeDecoder, features
from tests.support.runs import Place

FAST = [("lstm", "attention"), ("gru", "pre_inject")]  # of each kind of step, one
RULES: dict[str, Any] = {"min_length": 0, "block_ngrams": None, "forbidden_endings": []}
SEARCHES: list[tuple[Search, dict[str, Any]]] = [
    (GreedySearch(6), {"name": "greedy", "max_length": 6}),
    (
        BeamSearch(6, 3, 0.7),
        {"name": "beam", "max_length": 6, "beam_size": 3, "length_penalty": 0.7, **RULES},
    ),
    (
        BeamSearch(6, 4, 0.0, 2, 2, ("a", "b"), WORDS),
        {
            "name": "beam",
            "max_length": 6,
            "beam_size": 4,
            "length_penalty": 0.0,
            "min_length": 2,
            "block_ngrams": 2,
            "forbidden_endings": [4, 5],
        },
    ),
    (  # too short a limit for an end: the likeliest beginning
        BeamSearch(2, 2, 1.0, 2, None, tuple("abcdefg"), WORDS),
        {
            "name": "beam",
            "max_length": 2,
            "beam_size": 2,
            "length_penalty": 1.0,
            "min_length": 2,
            "block_ngrams": None,
            "forbidden_endings": list(range(4, 11)),
        },
    ),
]


def by_torch(decoder: Decoder, search: Search, image: ImageFeatures) -> list[Hypothesis]:
    return search.n_best(decoder, image)[0]


@pytest.mark.parametrize(
    ("decoder", "conditioning"),
    [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in DECODERS],
)
def test_every_search_of_every_decoder_gives_the_same_captions(
    decoder: str, conditioning: str, make_decoder: MakeDecoder, tmp_path: Path
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    images = [features(1, seed) for seed in range(1, 4)]
    with torch.no_grad():
        export_decoder(model, (images[0].grid, images[0].pooled), tmp_path)
    for search, settings in SEARCHES:
        facts = {"vocabulary": WORDS.to_list(), "search": settings}
        (tmp_path / "captioner.json").write_text(json.dumps(facts))
        exported = Captioner(tmp_path, num_threads=1)
        for image in images:
            expected = by_torch(model, search, image)
            arrays = image.grid.numpy(), image.pooled.numpy()
            found = exported.describe(*arrays, num_captions=len(expected))
            assert [c.text for c in found] == [WORDS.decode(h.tokens) for h in expected]
            for caption, hypothesis in zip(found, expected, strict=True):  # sums in another order
                assert caption.log_probability == pytest.approx(
                    hypothesis.log_probability, abs=1e-4
                )
                assert caption.score == pytest.approx(hypothesis.score, abs=1e-4)
            assert exported.describe(*arrays)[0].text == found[0].text


@pytest.mark.parametrize(("search", "settings"), SEARCHES)
def test_the_settings_of_a_search_are_exported(search: Search, settings: dict[str, Any]) -> None:
    assert settings.items() <= _search_settings(search).items()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(333, 500), (60, 41), (224, 300), (1000, 30)])
def test_photos_are_resized_as_the_run_resizes_them(
    interpolation: Any, size: tuple[int, int]
) -> None:
    """By one level at most: torch has another way where the processor has no AVX2."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    preprocessing = Preprocessing(64, 64, interpolation, (0.5,) * 3, (0.5,) * 3)
    expected = plain(torch.from_numpy(pixels).permute(2, 0, 1), preprocessing).numpy()
    found = to_pixels(Image.fromarray(pixels), vars(preprocessing))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16", "LA", "CMYK"])
def test_photos_of_every_kind_are_decoded_as_the_run_decodes_them(
    mode: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    if mode == "I;16":
        photo = Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16))
    else:
        photo = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)).convert(mode)
    path = tmp_path / "photo.tif"
    photo.save(path)
    assert np.array_equal(np.asarray(read_photo(path)), np.asarray(read_image(path)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [[], ["encoder.train=last"], ["decoder=transformer", "decoder.num_heads=2"]],
    ids=["frozen", "trained", "transformer"],
)
def test_an_exported_run_captions_drawings_as_the_run_does(
    options: list[str], place: Place, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sizes = [o for o in ("decoder.hidden_dim=8", "decoder.embedding_dim=8") if options]
    run = place.run(request.node.callspec.id, *options, *sizes)
    captioner = load_run(run, ["trainer.accelerator=cpu", "trainer.precision=32-true"]).captioner
    export_onnx(captioner, tmp_path / "model", {})
    photos = [image.path for image in place.data.corpus.splits["test"]]
    source: Any = captioner.source
    for name, search in (("greedy", GreedySearch(20)), ("beam", captioner.search)):
        exported = run_script(tmp_path / "model", ["--search", name, *map(str, photos)])
        for path in photos:
            pixels = torch.from_numpy(np.asarray(read_image(path)).copy()).permute(2, 0, 1)
            image = source.encode(plain(pixels, source.preprocessing).unsqueeze(0))
            (best,) = search(captioner.decoder, image)
            assert exported[str(path)] == captioner.vocabulary.decode(best.tokens)


def run_script(folder: Path, arguments: list[str]) -> Mapping[str, str]:
    """What `caption.py` says of each photo where neither torch nor captionlab can be imported."""
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'captionlab'])); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(folder / "caption.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {path: text for path, _, text in lines}


@pytest.mark.parametrize("search", ["diverse_beam", "sample"])
def test_a_search_that_the_script_does_not_know_is_refused(
    search: str, place: Place, tmp_path: Path
) -> None:
    captioner = load_run(place.run(search, f"search={search}")).captioner
    with pytest.raises(ConfigError, match="knows greedy and beam search") as error:
        export_onnx(captioner, tmp_path / "model", {})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()
