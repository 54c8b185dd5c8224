"""Small data sets in the exact layout of each dialect, written from a seed.

All of them hold the same 20 photos with 5 captions. A new one is a function with `@fake`; the tests
of readers then run over it.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

NUM_IMAGES, NUM_CAPTIONS = 20, 5
SPLITS = ["train"] * 14 + ["val"] * 3 + ["test"] * 3
_WORDS = ["a dog", "two men", "runs", "café", "in", "the", "red", '"hat"', "grass", "on", "x-ray"]


class Fake(NamedTuple):
    """A data set in one layout.

    Attributes:
        write: writes it below a folder and gives the file that holds the captions.
        dialect: name of the reader that it is for.
        form: of that file.
        has_splits: whether the layout says that the images are split as in `SPLITS`.
    """

    write: Callable[[Path], Path]
    dialect: str
    form: Literal["text", "json", "table"]
    has_splits: bool


FAKES: dict[str, Fake] = {}


def fake(
    dialect: str, form: Literal["text", "json", "table"], has_splits: bool
) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Puts a function into `FAKES` under its name; see `Fake`."""

    def register(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        FAKES[write.__name__] = Fake(write, dialect, form, has_splits)
        return write

    return register


def captions(seed: int = 0) -> dict[str, list[str]]:
    """Photo names as Flickr has them, to captions."""
    rng = random.Random(seed)
    return {
        f"{rng.randrange(10**9, 10**10)}_{rng.randrange(16**10):010x}.jpg": [
            " ".join(rng.choices(_WORDS, k=rng.randint(3, 9))) + " , there ."
            for _ in range(NUM_CAPTIONS)
        ]
        for _ in range(NUM_IMAGES)
    }


def photo(seed: int) -> bytes:
    """A small JPEG."""
    file = io.BytesIO()
    rng = random.Random(seed)
    colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
    Image.new("RGB", (16, 12), colour).save(file, "JPEG")
    return file.getvalue()


def _photos(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(photo(number))


def _lists(folder: Path, names: dict[str, str]) -> None:
    for split, file in names.items():
        chosen = [i for i, s in zip(captions(), SPLITS, strict=True) if s == split]
        (folder / file).write_text("\n".join(chosen) + "\n")


@fake("flickr8k", "text", has_splits=True)
def flickr8k(root: Path) -> Path:
    _photos(root / "Flicker8k_Dataset", [*captions()])
    text = root / "Flickr8k_text"
    text.mkdir()
    lines = [f"{i}#{n}\t{c}" for i, cs in captions().items() for n, c in enumerate(cs)]
    (text / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (text / "Flickr8k.lemma.token.txt").write_text("\n".join(lines) + "\n")
    names = {"train": "train", "val": "dev", "test": "test"}
    _lists(text, {split: f"Flickr_8k.{name}Images.txt" for split, name in names.items()})
    image = next(iter(captions()))
    (text / "CrowdFlowerAnnotations.txt").write_text(f"{image}\t{image}#2\t0\t3\t0\n")
    return text / "Flickr8k.token.txt"


@fake("csv", "text", has_splits=False)
def flickr8k_csv(root: Path) -> Path:
    _photos(root / "Images", [*captions()])
    with (root / "captions.txt").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "caption"])
        writer.writerows([i, c] for i, cs in captions().items() for c in cs)
    return root / "captions.txt"


@fake("flickr30k", "text", has_splits=False)
def flickr30k_token(root: Path) -> Path:
    _photos(root / "flickr30k-images", [*captions()])
    lines = [f"{i}#{n}\t{c}" for i, cs in captions().items() for n, c in enumerate(cs)]
    (root / "results_20130124.token").write_text("\n".join(lines) + "\n")
    return root / "results_20130124.token"


@fake("flickr30k", "text", has_splits=False)
def flickr30k_table(root: Path) -> Path:
    _photos(root / "flickr30k_images" / "flickr30k_images", [*captions()])
    lines = [f"{i}| {n}| {c}" for i, cs in captions().items() for n, c in enumerate(cs)]
    file = root / "flickr30k_images" / "results.csv"
    file.write_text("\n".join(["image_name| comment_number| comment", *lines]) + "\n")
    return file


def _sentences(written: list[str]) -> list[dict[str, Any]]:
    return [{"tokens": c.split(), "raw": c, "imgid": 0, "sentid": n} for n, c in enumerate(written)]


@fake("karpathy", "json", has_splits=True)
def karpathy_flickr8k(root: Path) -> Path:
    _photos(root / "images", [*captions()])
    entries = [
        {"sentids": [0], "imgid": n, "sentences": _sentences(cs), "split": split, "filename": image}
        for n, ((image, cs), split) in enumerate(zip(captions().items(), SPLITS, strict=True))
    ]
    file = root / "dataset_flickr8k.json"
    file.write_text(json.dumps({"images": entries, "dataset": "flickr8k"}))
    return file


def _coco_names(year: int) -> list[tuple[str, int, str]]:
    """Folder, id and file name of each photo."""
    names = []
    for number, split in enumerate(SPLITS):
        folder, image_id = ("train" if split == "train" else "val"), 9 + 7 * number
        prefix = f"COCO_{folder}{year}_" if year == 2014 else ""
        names.append((f"{folder}{year}", image_id, f"{prefix}{image_id:012d}.jpg"))
    return names


def coco(root: Path, year: int) -> Path:
    (root / "annotations").mkdir(parents=True)
    for official in ("train", "val"):
        images, annotations, names = [], [], []
        places = zip(_coco_names(year), captions().values(), strict=True)
        for number, ((folder, image_id, name), written) in enumerate(places):
            if folder != f"{official}{year}":
                continue
            names.append(name)
            images.append({"license": 3, "file_name": name, "height": 12, "width": 16})
            images[-1]["id"] = image_id
            annotations += [
                {"image_id": image_id, "id": 10 * number + n, "caption": c}
                for n, c in enumerate(written)
            ]
        random.Random(0).shuffle(annotations)
        annotations.sort(key=lambda entry: entry["id"] % 10)  # an image's captions lie apart
        _photos(root / f"{official}{year}", names)
        content = {"info": {"year": 2014}, "images": images, "licenses": []}
        file = root / "annotations" / f"captions_{official}{year}.json"
        file.write_text(json.dumps(content | {"annotations": annotations}))
        boxes = content | {"annotations": [{"image_id": 9, "bbox": [0, 0, 1, 1], "id": 1}]}
        (root / "annotations" / f"instances_{official}{year}.json").write_text(json.dumps(boxes))
    return root / "annotations" / f"captions_train{year}.json"


@fake("coco2014", "json", has_splits=False)
def coco2014(root: Path) -> Path:
    return coco(root, 2014)


@fake("coco2017", "json", has_splits=False)
def coco2017(root: Path) -> Path:
    return coco(root, 2017)


@fake("karpathy", "json", has_splits=True)
def karpathy_coco(root: Path, photos_of: int = 2014) -> Path:
    """Karpathy's JSON beside the organisers' files; it names the photos of 2014."""
    coco(root, photos_of)
    splits = ["restval" if n == 13 else split for n, split in enumerate(SPLITS)]
    entries = [
        {"filepath": folder, "sentids": [0], "filename": name, "imgid": 0, "split": split}
        | {"sentences": _sentences(written), "cocoid": image_id}
        for (folder, image_id, name), written, split in zip(
            _coco_names(2014), captions().values(), splits, strict=True
        )
    ]
    file = root / "dataset_coco.json"
    file.write_text(json.dumps({"images": entries, "dataset": "coco"}))
    return file


@fake("parquet", "table", has_splits=True)
def parquet_columns(root: Path) -> Path:
    """Columns `image` and `caption_0` .. `caption_4`, a file per split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "data").mkdir(parents=True)
    for split, named in (("train", "train"), ("val", "validation"), ("test", "test")):
        chosen = [
            (n, i, cs)
            for n, ((i, cs), s) in enumerate(zip(captions().items(), SPLITS, strict=True))
            if s == split
        ]
        columns: dict[str, list[Any]] = {
            "image": [{"bytes": photo(n), "path": i} for n, i, _ in chosen]
        }
        for k in range(NUM_CAPTIONS):
            columns[f"caption_{k}"] = [cs[k] for _, _, cs in chosen]
        pq.write_table(pa.table(columns), root / "data" / f"{named}-00000-of-00001-0f.parquet")
    return root / "data" / "train-00000-of-00001-0f.parquet"


@fake("parquet", "table", has_splits=True)
def parquet_list(root: Path) -> Path:
    """Columns `image`, `caption` (a list), `sentids`, `split`, `img_id` and `filename`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "image": [{"bytes": photo(n), "path": None} for n in range(NUM_IMAGES)],
            "caption": [*captions().values()],
            "sentids": [["0", "1"]] * NUM_IMAGES,
            "split": SPLITS,
            "img_id": [str(n) for n in range(NUM_IMAGES)],
            "filename": [*captions()],
        }
    )
    pq.write_table(table, root / "test-00000-of-00001.parquet", row_group_size=8)
    return root / "test-00000-of-00001.parquet"


@fake("csv", "text", has_splits=True)
def own_csv(root: Path) -> Path:
    _photos(root / "images", [*captions()])
    with (root / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption", "split"])
        for (image, cs), split in zip(captions().items(), SPLITS, strict=True):
            writer.writerows([image, c, split] for c in cs)
    return root / "captions.csv"


@fake("jsonl", "text", has_splits=True)
def own_jsonl(root: Path) -> Path:
    _photos(root / "images", [*captions()])
    lines = [
        json.dumps({"image": image, "captions": cs, "split": split}, ensure_ascii=False)
        for (image, cs), split in zip(captions().items(), SPLITS, strict=True)
    ]
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return root / "captions.jsonl"
