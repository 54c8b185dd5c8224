"""The embedded data set."""

from __future__ import annotations

import json
from pathlib import Path

from captionlab.data.corpus import CaptionCorpus
from captionlab.data.shapes import generate_shapes


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_equal_seeds_give_equal_files(shapes_root: Path, tmp_path: Path) -> None:
    generate_shapes(tmp_path / "again", 24, 8, 8, 32, seed=0)
    generate_shapes(tmp_path / "other", 24, 8, 8, 32, seed=1)
    assert files(tmp_path / "again") == files(shapes_root)
    assert files(tmp_path / "other") != files(shapes_root)


def test_it_is_made_once_and_anew_for_other_arguments(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    generate_shapes(root, 3, 2, 2, 32, seed=0)
    made = (root / "generator.json").stat().st_mtime_ns
    generate_shapes(root, 3, 2, 2, 32, seed=0)
    assert (root / "generator.json").stat().st_mtime_ns == made
    generate_shapes(root, 4, 2, 2, 32, seed=0)
    assert len(list((root / "images").iterdir())) == 8


def test_captions_are_true_of_their_scene(shapes_root: Path, shapes: CaptionCorpus) -> None:
    lines = (shapes_root / "scenes.jsonl").read_text().splitlines()
    scenes = {scene["image"]: scene for scene in map(json.loads, lines)}
    colours = {each["colour"] for scene in scenes.values() for each in scene["objects"]}
    for image in shapes.images:
        scene = scenes[image.image_id]
        told = {each["colour"] for each in scene["objects"]}
        for caption in image.captions:
            assert set(caption.lower().split()) & colours == told
            if "left of" in caption:
                xs = {each["colour"]: each["x"] for each in scene["objects"]}
                before, after = caption.lower().split("left of")
                first = [word for word in before.split() if word in xs][-1]
                second = next(word for word in after.split() if word in xs)
                assert xs[first] < xs[second]


def test_references_of_an_image_differ(shapes: CaptionCorpus) -> None:
    distinct = [len(set(image.captions)) for image in shapes.images]
    assert sum(distinct) / len(distinct) > 4
