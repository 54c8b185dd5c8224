"""Every image encoded once: opening, resuming, refusing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.readers import read_corpus
from captionlab.errors import DataError, StorageError
from captionlab.features import builder
from captionlab.features.inventory import list_stores, remove_store, verify_store
from captionlab.features.store import FeatureStore
from captionlab.locks import OwnedLock
from captionlab.types import FeatureShape, ImageFeatures, Preprocessing


class MeanColour:
    """An encoder that counts what it is asked."""

    preprocessing = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    feature_shape = FeatureShape((2, 2), 3, 3)
    num_calibration_images = 4
    num_parameters = num_trained_parameters = 0

    def __init__(self, fingerprint: str = "mean/1", dies_after: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.dies_after = dies_after
        self.num_encoded = self.num_prepared = 0
        self.calibration: Mapping[str, Tensor] = {}

    def prepare(self, batches: Iterable[Tensor], device: torch.device) -> None:
        if not self.calibration:
            self.num_prepared = sum(len(batch) for batch in batches)
            self.calibration = {"mean": torch.arange(3.0)}

    def __call__(self, images: Tensor) -> ImageFeatures:
        if self.dies_after is not None and self.num_encoded >= self.dies_after:
            raise KeyboardInterrupt
        self.num_encoded += len(images)
        quarters = torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(2)
        return ImageFeatures(quarters.transpose(1, 2), images.mean((2, 3)))


def build(
    root: Path,
    corpus: CaptionCorpus,
    encoder: MeanColour,
    with_grid: bool = True,
    autocast_dtype: torch.dtype | None = None,
) -> FeatureStore:
    return builder.open_or_build(
        root,
        corpus,
        encoder,
        batch_size=8,
        num_workers=0,
        device=torch.device("cpu"),
        autocast_dtype=autocast_dtype,
        with_grid=with_grid,
    )


def test_vectors_can_be_kept_without_maps(tmp_path: Path, shapes: CaptionCorpus) -> None:
    whole = build(tmp_path / "whole", shapes, MeanColour())
    store = build(tmp_path, shapes, MeanColour(), with_grid=False)
    assert store.folder.name != whole.folder.name
    ids = [image.image_id for image in shapes.images[3:5]]
    assert store.read(ids).grid.shape == (2, 0, 3)
    assert torch.equal(store.read(ids).pooled, whole.read(ids).pooled)
    assert store.manifest["num_bytes"] == 40 * 3 * 2
    assert [verify_store(each) for each in list_stores(tmp_path)] == [None]


def test_vectors_of_a_store_with_maps_are_not_encoded_again(
    tmp_path: Path, shapes: CaptionCorpus
) -> None:
    whole = build(tmp_path, shapes, MeanColour())
    asked_again = MeanColour()
    store = build(tmp_path, shapes, asked_again, with_grid=False)
    assert asked_again.num_encoded == 0
    ids = [shapes.images[3].image_id]
    assert store.read(ids).grid.shape == (1, 0, 3)
    assert torch.equal(store.read(ids).pooled, whole.read(ids).pooled)


def test_images_are_encoded_once(tmp_path: Path, shapes: CaptionCorpus) -> None:
    first, second = MeanColour(), MeanColour()
    build(tmp_path, shapes, first)
    store = build(tmp_path, shapes, second)
    assert (first.num_encoded, first.num_prepared, second.num_encoded) == (40, 4, 0)
    ids = [shapes.images[i].image_id for i in (30, 2)]
    features = store.read(ids)
    assert features.grid.shape == (2, 4, 3)
    torch.testing.assert_close(
        features.grid.float().mean(1), features.pooled.float(), atol=2e-3, rtol=0
    )
    assert not torch.equal(features.pooled[0], features.pooled[1])


def test_another_encoder_or_photo_is_another_store(tmp_path: Path, shapes_root: Path) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    one = build(tmp_path / "f", read_corpus(root), MeanColour())
    two = build(tmp_path / "f", read_corpus(root), MeanColour("mean/2"))
    photo = root / "images" / "train_00000.jpg"
    photo.write_bytes(photo.read_bytes() + b"\0")
    three = build(tmp_path / "f", read_corpus(root), MeanColour())
    assert len({store.folder for store in (one, two, three)}) == 3


def test_another_preprocessing_is_another_store(tmp_path: Path, shapes: CaptionCorpus) -> None:
    class Darker(MeanColour):
        preprocessing = replace(MeanColour.preprocessing, mean=(0.25, 0.25, 0.25))

    one, other = (build(tmp_path, shapes, encoder) for encoder in (MeanColour(), Darker()))
    assert one.folder != other.folder


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_images_are_encoded_under_autocast_where_a_dtype_is_given(
    tmp_path: Path, shapes: CaptionCorpus, dtype: torch.dtype | None
) -> None:
    under_autocast: set[bool] = set()

    class Observed(MeanColour):
        def __call__(self, images: Tensor) -> ImageFeatures:
            under_autocast.add(torch.is_autocast_enabled("cpu"))
            return super().__call__(images)

    build(tmp_path, shapes, Observed(), autocast_dtype=dtype)
    assert under_autocast == {dtype is not None}


def test_a_killed_build_goes_on(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 8)
    whole = build(tmp_path / "whole", shapes, MeanColour())
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "killed", shapes, MeanColour(dies_after=24))
    rest = MeanColour()
    store = build(tmp_path / "killed", shapes, rest)
    assert rest.num_encoded == 16
    ids = [image.image_id for image in shapes.images]
    assert torch.equal(store.read(ids).grid, whole.read(ids).grid)
    assert not (store.folder / "progress.json").exists()


def test_a_build_whose_array_was_deleted_begins_again(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 8)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, shapes, MeanColour(dies_after=24))
    next(tmp_path.glob("*/grid.npy")).unlink()
    assert [store.num_encoded for store in list_stores(tmp_path)] == [24]
    again = MeanColour()
    assert verify_store(list_stores(tmp_path)[0]) is not None
    build(tmp_path, shapes, again)
    assert again.num_encoded == len(shapes.images)
    assert verify_store(list_stores(tmp_path)[0]) is None


def test_damaged_rows_are_found_when_their_block_is_first_read(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 8)
    folder = build(tmp_path, shapes, MeanColour()).folder
    np.load(folder / "grid.npy", mmap_mode="r+")[12, 3, 0] += 1  # none of those looked at first
    store = build(tmp_path, shapes, MeanColour())
    ids = [image.image_id for image in shapes.images]
    assert len(store.read(ids[:8] + ids[16:]).pooled) == 32
    with pytest.raises(StorageError, match=r"grid\.npy: images 8 to 15 are not .*remove"):
        store.read([ids[9]])
    without_maps = build(tmp_path, shapes, MeanColour(), with_grid=False)
    assert len(without_maps.read(ids).pooled) == 40, "maps are not read, and not looked at"


def test_a_block_is_compared_with_its_digest_once(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build(tmp_path, shapes, MeanColour())
    ids = [image.image_id for image in shapes.images]
    looked: list[int] = []
    verify = store._verify
    monkeypatch.setattr(store, "_verify", lambda block: (looked.append(block), verify(block)))
    for _ in range(3):
        store.read(ids)
    assert looked == [0]


def test_a_photo_under_another_name_is_damage(tmp_path: Path, shapes: CaptionCorpus) -> None:
    path = build(tmp_path, shapes, MeanColour()).folder / "manifest.json"
    path.write_text(path.read_text().replace("test_00000", "test_0000x"))
    with pytest.raises(StorageError, match=r"manifest\.json is not what was written"):
        build(tmp_path, shapes, MeanColour())


def test_a_disk_that_fills_while_encoding_is_one_line_and_the_build_resumes(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 8)
    whole = build(tmp_path / "whole", shapes, MeanColour())
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    written: list[int] = []

    def sync(file: int) -> None:
        written.append(file)
        if len(written) == 4:  # of the second block
            raise full

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\)"):
            build(tmp_path / "full", shapes, MeanColour())
    rest = MeanColour()
    store = build(tmp_path / "full", shapes, rest)
    assert rest.num_encoded == 32
    ids = [image.image_id for image in shapes.images]
    assert torch.equal(store.read(ids).grid, whole.read(ids).grid)
    assert [verify_store(each) for each in list_stores(tmp_path / "full")] == [None]


@pytest.mark.parametrize("how", ["cut", "changed", "gone", "manifest"])
def test_damage_is_found(tmp_path: Path, shapes: CaptionCorpus, how: str) -> None:
    path = build(tmp_path, shapes, MeanColour()).folder / "grid.npy"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif how == "changed":
        np.load(path, mmap_mode="r+")[:] = 1
    elif how == "manifest":
        (path.parent / "manifest.json").write_text('{"name": "sha')
    else:
        path.unlink()
    with pytest.raises(StorageError, match="damaged"):
        build(tmp_path, shapes, MeanColour())


def test_a_full_disk_is_refused_with_numbers(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(StorageError, match=r"40 images need 0\.00 GB .*0\.00 GB are free"):
        build(tmp_path, shapes, MeanColour())
    assert list(tmp_path.glob("*/grid.npy")) == []


def test_an_unreadable_photo_is_named(tmp_path: Path, shapes_root: Path) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    (root / "images" / "test_00001.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"test_00001\.jpg cannot be read"):
        build(tmp_path / "features", read_corpus(root), MeanColour())


def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path, shapes: CaptionCorpus) -> None:
    class Loud(MeanColour):
        def __call__(self, images: Tensor) -> ImageFeatures:
            made = super().__call__(images)
            return ImageFeatures(made.grid * 1e6, made.pooled)

    with pytest.raises(StorageError, match="float16"):
        build(tmp_path, shapes, Loud())


def test_what_an_encoder_was_fitted_to_is_kept(tmp_path: Path, shapes: CaptionCorpus) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, shapes, MeanColour(dies_after=8))
    resumed = MeanColour()
    store = build(tmp_path, shapes, resumed)
    assert resumed.num_prepared == 0, "it was fitted before"
    assert store.calibration["mean"].tolist() == [0, 1, 2]
    (store.folder / "calibration.npz").write_bytes(b"PK")
    fault = verify_store(list_stores(tmp_path)[0])
    assert fault is not None
    assert "calibration.npz is damaged" in fault
    with pytest.raises(StorageError, match=r"calibration\.npz is damaged"):
        _ = build(tmp_path, shapes, MeanColour()).calibration


def test_the_manifest_tells_the_cost(tmp_path: Path, shapes: CaptionCorpus) -> None:
    store = build(tmp_path, shapes, MeanColour())
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["num_bytes"] == 40 * (12 + 3) * 2
    assert manifest["encode_seconds"] > 0


def test_stores_are_listed_with_their_progress(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_stores(tmp_path / "nowhere") == []
    build(tmp_path, shapes, MeanColour("mean/whole"))
    monkeypatch.setattr(builder, "_BLOCK", 8)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, shapes, MeanColour("part/killed", dies_after=24))
    whole, part = list_stores(tmp_path)
    assert (whole.complete, whole.num_encoded, whole.num_images) == (True, 40, 40)
    assert (part.complete, part.num_encoded, part.num_images) == (False, 24, 40)
    assert (whole.encoder, part.encoder) == ("mean/whole", "part")
    assert whole.num_bytes > 40 * (12 + 3) * 2
    assert [verify_store(whole), verify_store(part)] == [None, None]


@pytest.mark.parametrize("file", ["grid.npy", "pooled.npy", "manifest.json"])
def test_one_flipped_bit_anywhere_is_found(
    tmp_path: Path, shapes: CaptionCorpus, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 16)
    build(tmp_path, shapes, MeanColour())
    (store,) = list_stores(tmp_path)
    assert verify_store(store) is None
    whole = (store.folder / file).read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(place) % 8
        (store.folder / file).write_bytes(flipped)
        assert file in (verify_store(store) or ""), place
    (store.folder / file).write_bytes(whole)
    assert verify_store(store) is None


def test_a_store_that_went_on_after_a_kill_is_whole(
    tmp_path: Path, shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_BLOCK", 8)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, shapes, MeanColour(dies_after=24))
    build(tmp_path, shapes, MeanColour())
    (store,) = list_stores(tmp_path)
    assert verify_store(store) is None
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert [block["end"] for block in manifest["blocks"]] == [8, 16, 24, 32, 40]


def test_a_store_is_removed_but_not_while_it_is_filled(
    tmp_path: Path, shapes: CaptionCorpus
) -> None:
    name = build(tmp_path, shapes, MeanColour()).folder.name
    for wrong in ("nothing", "..", f"../{tmp_path.name}/{name}"):
        with pytest.raises(StorageError, match=f"there are: {name}"):
            remove_store(tmp_path, wrong)
    with (
        OwnedLock(tmp_path / f".{name}.owner").hold(),
        pytest.raises(StorageError, match="being encoded"),
    ):
        remove_store(tmp_path, name)
    assert remove_store(tmp_path, name).folder.name == name
    assert list_stores(tmp_path) == []
    encoder = MeanColour()
    build(tmp_path, shapes, encoder)
    assert encoder.num_encoded == 40
