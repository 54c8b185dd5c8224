"""Features that other programs made: what is read, what is refused, and what a run does with it."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import captionlab
from captionlab.config import build
from captionlab.corpora.corpus import CaptionCorpus, CaptionedImage
from captionlab.errors import CaptionLabError, ConfigError, DataError
from captionlab.features.external import FeatureFile
from captionlab.features.inventory import list_stores, verify_store
from captionlab.features.source import StoredFeatures
from captionlab.runs.identity import identity
from tests.support import fakes
from tests.support.configs import checked
from tests.support.runs import Place

IDS = ["b.jpg", "a.jpg", "c.jpg"]
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)
GRIDS = np.arange(3 * 2 * 3 * 5, dtype=np.float32).reshape(3, 2, 3, 5)
REGIONS = GRIDS.reshape(3, 6, 5)
BOXES = np.zeros((3, 6, 4), np.float32)


def corpus_of(*ids: str) -> CaptionCorpus:
    images = tuple(CaptionedImage(i, Path("gone") / i, ("a dog",)) for i in ids)
    return CaptionCorpus("made_up", {"train": images, "val": (), "test": ()})


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "theirs.npz", **arrays)
    return folder / "theirs.npz"


def npy(folder: Path, array: NDArray[Any], ids: list[Any], as_json: bool = False) -> Path:
    np.save(folder / "theirs.npy", array)
    if as_json:
        (folder / "theirs.ids.json").write_text(json.dumps(ids))
    else:
        (folder / "theirs.ids.txt").write_text("\n".join(map(str, ids)) + "\n")
    return folder / "theirs.npy"


def safetensors(folder: Path, array: NDArray[Any], **metadata: str) -> Path:
    save = pytest.importorskip("safetensors.torch").save_file
    save({"x": torch.tensor(array).bfloat16()}, folder / "theirs.safetensors", metadata)
    return folder / "theirs.safetensors"


def one_each(folder: Path, suffix: str, arrays: NDArray[Any], ids: list[str]) -> Path:
    """As self-critical.pytorch writes cocotalk_att/ID.npz and cocotalk_fc/ID.npy."""
    (folder / "theirs").mkdir()
    for image, values in zip(ids, arrays, strict=True):
        if suffix == "npz":
            np.savez_compressed(folder / "theirs" / image, feat=values)
        else:
            np.save(folder / "theirs" / image, values)
    return folder / "theirs"


FORMS = {
    "npy of vectors, ids in lines": lambda f: (npy(f, VECTORS, IDS), VECTORS, (0, 0)),
    "npy of regions, ids in json": lambda f: (npy(f, REGIONS, IDS, True), REGIONS, (1, 6)),
    "npz of a grid": lambda f: (npz(f, feats=GRIDS, ids=np.array(IDS)), REGIONS, (2, 3)),
    "npz of half precision": lambda f: (
        npz(f, x=REGIONS.astype(np.float16), ids=IDS),
        REGIONS,
        (1, 6),
    ),
    "npz of regions with boxes": lambda f: (
        npz(f, features=REGIONS, boxes=BOXES, image_ids=IDS, num_boxes=6),
        REGIONS,
        (1, 6),
    ),
    "safetensors": lambda f: (safetensors(f, GRIDS, ids=json.dumps(IDS)), REGIONS, (2, 3)),
    "a folder of grids": lambda f: (one_each(f, "npz", GRIDS, ["b", "a", "c"]), REGIONS, (2, 3)),
    "a folder of vectors": lambda f: (
        one_each(f, "npy", VECTORS, ["b", "a", "c"]),
        VECTORS,
        (0, 0),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_image_gets_its_own_row(form: str, tmp_path: Path) -> None:
    path, expected, grid_size = FORMS[form](tmp_path)
    file = FeatureFile(str(path))
    features = file.read(file.rows(corpus_of("a.jpg", "b.jpg")))
    assert file.feature_shape.grid_size == grid_size
    rows = torch.tensor(expected[[1, 0]])
    if expected.ndim == 2:
        assert features.grid.shape == (2, 0, 2)
        assert torch.equal(features.pooled, rows)
    else:
        assert torch.equal(features.grid, rows)
        assert torch.allclose(features.pooled, rows.mean(1)), "the mean, as self-critical has it"


def test_vectors_beside_a_grid_are_taken_as_they_are(tmp_path: Path) -> None:
    file = FeatureFile(str(npz(tmp_path, grid=GRIDS, pooled=VECTORS, ids=IDS)))
    assert (file.feature_shape.grid_dim, file.feature_shape.pooled_dim) == (5, 2)
    assert torch.equal(file.read([2]).pooled, torch.tensor(VECTORS[2:]))


def test_images_go_by_the_numbers_of_coco_too(tmp_path: Path) -> None:
    file = FeatureFile(str(npy(tmp_path, VECTORS, [391895, 9, 25])))
    corpus = corpus_of("COCO_val2014_000000000025.jpg", "val2014/COCO_val2014_000000391895.jpg")
    assert file.rows(corpus) == [2, 0]
    assert file.rows(corpus_of("000000000009.jpg")) == [1]


def with_nan(path: Path) -> Path:
    values = REGIONS.copy()
    values[1, 2, 3] = np.nan
    return npz(path, x=values, ids=IDS)


def ragged(folder: Path) -> Path:
    path = one_each(folder, "npz", REGIONS, ["a", "b", "c"])
    np.savez(path / "b.npz", feat=REGIONS[0, :4])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


REFUSED = {
    "no such file": (lambda f: f / "x.npz", "does not exist; name a file (.npy, .npz"),
    "another kind": (lambda f: written(f / "x.tsv", b""), "a file is one of .npy, .npz"),
    "no array": (lambda f: written(f / "x.npz", b"PK"), "x.npz cannot be read as a npz file"),
    "cut off": (
        lambda f: written(f / "x.npy", npy(f, VECTORS, IDS).read_bytes()[:-4]),
        "x.npy cannot be read as a npy file",
    ),
    "an empty folder": (lambda f: f, "has no files; a folder has one for each image"),
    "no ids": (lambda f: npz(f, x=REGIONS), "add an array ids, or beside it theirs.ids.txt"),
    "too few ids": (lambda f: npy(f, VECTORS, IDS[:2]), "do not match (2 ids, 3 pooled)"),
    "ids twice": (lambda f: npy(f, VECTORS, ["a", "b", "a"]), "come more than once, such as 'a'"),
    "odd ids": (lambda f: npz(f, x=REGIONS, ids=np.eye(3)), "the ids of"),
    "whole numbers": (lambda f: npy(f, VECTORS.astype(int), IDS), "int64; expected a floating"),
    "scalars": (lambda f: npy(f, VECTORS[:, 0], IDS), "expected floating point pooled vectors"),
    "channels first": (
        lambda f: npy(f, np.zeros((3, 512, 7, 7), np.float32), IDS),
        "looks like channels first",
    ),
    "several arrays": (lambda f: npz(f, x=REGIONS, y=VECTORS, ids=IDS), "x [3, 6, 5] float32, y"),
    "boxes of others": (
        lambda f: npz(f, x=REGIONS, boxes=BOXES[:, :5], ids=IDS),
        "belong boxes of [3, 6, 4]",
    ),
    "images without": (lambda f: npy(f, VECTORS, ["a", "x", "y"]), "no features of 1 of 2 images"),
    "not a number": (with_nan, "features of a.jpg hold nan; they have to be finite"),
    "too large": (lambda f: npy(f, VECTORS * 1e6, IDS), "below 65504"),
    "other numbers of regions": (ragged, "decoders read no mask"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_clear_line(case: str, tmp_path: Path) -> None:
    make, expected = REFUSED[case]
    corpus = corpus_of("a.jpg", "b.jpg")
    with pytest.raises(DataError) as caught:
        source(FeatureFile(str(make(tmp_path))), tmp_path / "cache").open(corpus)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*"))


def source(file: FeatureFile, cache: Path) -> StoredFeatures:
    from captionlab.encoders import ExternalEncoder
    from captionlab.features.external import ExternalFeatures

    return ExternalFeatures(
        file,
        encoder=ExternalEncoder(str(file.path), "theirs/1", file.feature_shape),
        folder=cache,
        batch_size=1,
        num_workers=0,
        stored_features="all",
        device=torch.device("cpu"),
        autocast_dtype=None,
    )


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_a_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bombs = np.array([Bomb(), Bomb(), Bomb()], dtype=object)
    np.save(tmp_path / "theirs.npy", bombs, allow_pickle=True)
    (tmp_path / "theirs.ids.txt").write_text("\n".join(IDS))
    named = npz(tmp_path, x=VECTORS, ids=bombs)
    renamed = written(tmp_path / "x.safetensors", pickle.dumps(Bomb()))
    for path in (tmp_path / "theirs.npy", renamed):
        with pytest.raises(DataError, match="cannot be read as"):
            FeatureFile(str(path))
    named.with_suffix(".ids.txt").unlink()
    with pytest.raises(DataError, match="add an array ids"):
        FeatureFile(str(named))
    assert not (tmp_path / "executed").exists()


def test_other_content_is_another_run_and_another_place_is_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = npz(tmp_path, x=REGIONS, ids=IDS)
    first = FeatureFile(str(path)).digest(cache)
    (tmp_path / "moved").mkdir()
    moved = shutil.copy(path, tmp_path / "moved")
    assert FeatureFile(moved).digest(cache) == first
    npz(tmp_path, x=REGIONS + np.eye(6, 5, dtype=np.float32), ids=IDS)
    assert FeatureFile(str(path)).digest(cache) != first
    digest = FeatureFile(str(npy(tmp_path, VECTORS, IDS))).digest(cache)
    assert FeatureFile(str(npy(tmp_path, VECTORS, IDS[::-1]))).digest(cache) != digest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def exported(place: Place) -> Path:
    """What captionlab's own store holds, as a file of somebody else's."""
    assert isinstance(place.data.source, StoredFeatures)
    ids = [image.image_id for image in place.data.corpus.images]
    features, shape = place.data.source.open(place.data.corpus).read(ids), place.data.source
    grid = features.grid.view(len(ids), *shape.feature_shape.grid_size, -1).numpy()
    path = place.folder / "exported.npz"
    np.savez(path, grid=grid, pooled=features.pooled.numpy(), ids=np.array(ids))
    return path


def test_features_exported_from_a_store_give_the_captions_of_the_encoder(
    place: Place, exported: Path
) -> None:
    images = [image.image_id for image in place.data.corpus.splits["test"]]
    own = place.captioner("own").write(place.data.corpus, images)
    given = place.captioner("given", f"data.features={exported}")
    assert given.write(place.data.corpus, images) == own  # the same numbers, batch by batch
    faults = [verify_store(store) for store in list_stores(place.folder / "data" / "features")]
    assert faults == [None, None]


def test_a_run_on_given_features_goes_by_their_name_whatever_the_encoder(
    place: Place, exported: Path
) -> None:
    configs = [place.set_up(f"data.features={exported}", e)[0] for e in ("encoder=vgg", "seed=0")]
    assert [config["encoder"]["name"] for config in configs] == ["exported"] * 2
    first, second = map(identity, configs)
    assert first == second
    assert str(exported) not in json.dumps(first)


def test_a_run_without_given_features_is_the_run_that_it_was(place: Place) -> None:
    assert "features" not in identity(place.set_up()[0])["data"]


def test_new_photos_cannot_be_captioned(place: Place, exported: Path) -> None:
    with pytest.raises(ConfigError, match=r"made elsewhere .*; caption new photos by a run with"):
        captionlab.load(place.run("blind", f"data.features={exported}"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["encoder.train=last"], "encoder.train=last"),
        (["augmentation=flip"], "augmentation=flip"),
        (["data.stored_features=pooled"], "data.stored_features=pooled"),
    ],
)
def test_what_needs_an_encoder_is_refused(
    overrides: list[str], expected: str, exported: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{expected} has no effect"):
        checked(f"data.features={exported}", *overrides)


def test_attention_over_vectors_is_refused(tmp_path: Path) -> None:
    path = npy(tmp_path, VECTORS, IDS)
    with pytest.raises(CaptionLabError, match="conditioning=attention reads a grid or regions"):
        checked(f"data.features={path}")
    assert checked(f"data.features={path}", "conditioning=init_inject")


def test_no_photo_is_needed(tmp_path: Path) -> None:
    fakes.flickr8k(tmp_path / "data")
    ids = [*fakes.captions()]
    vectors = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
    path = npy(tmp_path, vectors, ids)
    overrides = ["data=flickr8k", f"data.root={tmp_path}/data", f"cache_dir={tmp_path}/cache"]
    overrides += [f"data.features={path}", "conditioning=merge", "data.min_count=1"]
    before = identity(checked(*overrides))
    shutil.rmtree(tmp_path / "data" / "Flicker8k_Dataset")
    shutil.rmtree(tmp_path / "cache")
    config = checked(*overrides)
    assert identity(config) == before
    batch = next(iter(build.build_data(config).loaders.evaluation("test")))
    rows = torch.tensor(vectors[[ids.index(i) for i in batch.image_ids]])
    assert torch.equal(batch.features.pooled, rows.half())
