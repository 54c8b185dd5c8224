"""The embedded data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.datasets import Shapes
from captionlab.corpora.shapes import (
    Scene,
    SceneObject,
    check_caption,
    generate_shapes,
    read_scenes,
)
from captionlab.locks import OwnedLock
from captionlab.text import PTBTokenizer


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_equal_seeds_give_equal_files(shapes_root: Path, tmp_path: Path) -> None:
    generate_shapes(tmp_path / "again", 24, 8, 8, 32, seed=0)
    generate_shapes(tmp_path / "other", 24, 8, 8, 32, seed=1)
    assert files(tmp_path / "again") == files(shapes_root)
    assert files(tmp_path / "other") != files(shapes_root)


def test_it_is_generated_once(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    generate_shapes(root, 3, 2, 2, 32, seed=0)
    generated_at = (root / "generator.json").stat().st_mtime_ns
    generate_shapes(root, 3, 2, 2, 32, seed=0)
    assert (root / "generator.json").stat().st_mtime_ns == generated_at


def test_recipes_share_a_root_without_replacing_each_other(tmp_path: Path) -> None:
    first, other = (Shapes(tmp_path, 3, 2, 2, 32, generator_seed=seed) for seed in (0, 1))
    before = first.read_all()
    photos = [image.path.read_bytes() for image in before.images]
    captions = {image.image_id: image.captions[0] for image in before.images}
    after = other.read_all()
    assert before.fingerprint != after.fingerprint
    assert [image.path.read_bytes() for image in before.images] == photos
    assert first.read_captions().fingerprint == before.fingerprint
    assert first.truth(captions)["all"] == 1.0
    assert other.truth(captions)["all"] < 1.0


def test_drawings_that_are_there_need_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Shapes(tmp_path / "shapes", 3, 2, 2, 32, generator_seed=0)
    fingerprint = dataset.read_all().fingerprint
    monkeypatch.setattr(OwnedLock, "hold", None)  # a cache that is read-only
    assert dataset.read_all().fingerprint == fingerprint


def test_captions_are_true_of_their_scene(shapes_root: Path, shapes: CaptionCorpus) -> None:
    scenes, tokenize = read_scenes(shapes_root), PTBTokenizer()
    claims = 0
    for image in shapes.images:
        for caption in image.captions:
            counts = check_caption(tokenize(caption), scenes[image.image_id])
            assert all(num_true == number for num_true, number in counts.values()), caption
            claims += sum(number for _, number in counts.values())
    assert claims > 5 * len(shapes.images) * 3


@pytest.mark.parametrize(
    ("caption", "true", "false"),
    [
        ("a large red circle left of a small blue star on white", "all", ""),
        ("a red circle and a blue star", "number shape colour", ""),
        ("there is a red disc", "shape colour", "number"),
        ("a red star beside a blue star", "number shape", "colour"),
        ("a small red circle and a small blue star", "number shape size", "size"),
        ("a blue star left of a red circle against grey", "shape", "relation background"),
        ("a red circle above a blue star", "shape", "relation"),
        ("a red circle left of a red circle", "shape", "relation"),
        ("a green square left of a blue star", "shape", "shape colour relation"),
        ("", "", "number"),
    ],
)
def test_what_a_caption_claims_is_checked(caption: str, true: str, false: str) -> None:
    scene = Scene(
        "white",
        (
            SceneObject("circle", "red", "large", 0.2, 0.5),
            SceneObject("star", "blue", "small", 0.8, 0.6),
        ),
    )
    counts = check_caption(caption.split(), scene)
    with_false_claims = {name for name, (num_true, number) in counts.items() if num_true < number}
    assert with_false_claims == set(false.split())
    for name in counts if true == "all" else true.split():
        assert counts[name][0] > 0, name


def test_training_photos_may_have_fewer_captions_than_the_references(tmp_path: Path) -> None:
    dataset = Shapes(tmp_path / "shapes", 4, 2, 2, 32, generator_seed=0, num_captions=1)
    splits = dataset.read().splits
    numbers = {name: {len(i.captions) for i in images} for name, images in splits.items()}
    assert numbers == {"train": {1}, "val": {5}, "test": {5}}


def test_two_objects_are_named_in_reading_order(shapes_root: Path, shapes: CaptionCorpus) -> None:
    words = [word for image in shapes.images for c in image.captions for word in c.split()]
    assert {"left", "above"} < set(words)
    assert not {"right", "below", "under"} & set(words)
    assert {len(scene.objects) for scene in read_scenes(shapes_root).values()} == {1, 2}


def test_references_of_an_image_differ(shapes: CaptionCorpus) -> None:
    distinct = [len(set(image.captions)) for image in shapes.images]
    assert sum(distinct) / len(distinct) > 4
