"""Every dialect is known by its content and read alike; damage is one line that names the place."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from captionlab.corpora import read_corpus
from captionlab.corpora.corpus import SPLITS, CaptionCorpus
from captionlab.corpora.readers import DIALECTS
from captionlab.errors import DataError
from tests.support import fakes

SIZES = {"train": 14, "val": 3, "test": 3}
HAVE_SPLITS = [name for name in fakes.FAKES if name.startswith(("flickr8k", "karp", "parq", "own"))]
HAVE_SPLITS.remove("flickr8k_csv")


def make(root: Path, fake: str) -> Path:
    """The file of a fake tree that holds its captions."""
    return fakes.FAKES[fake][0](root)


def sizes(corpus: CaptionCorpus) -> dict[str, int]:
    return {split: len(corpus.splits[split]) for split in SPLITS}


@pytest.mark.parametrize("fake", fakes.FAKES)
def test_each_dialect_is_known_by_its_content_and_has_the_same_captions(
    tmp_path: Path, fake: str
) -> None:
    make(tmp_path / "data", fake)
    corpus = read_corpus(tmp_path / "data")
    assert corpus.name == "data"
    assert sorted(image.captions for image in corpus.images) == sorted(
        tuple(each) for each in fakes.captions().values()
    )
    assert all(image.path.is_file() for image in corpus.images)
    named = read_corpus(tmp_path / "data", fakes.FAKES[fake][1], "data")
    assert named.fingerprint == corpus.fingerprint
    assert all("\n" not in note for note in corpus.notes)


@pytest.mark.parametrize("fake", HAVE_SPLITS)
def test_splits_that_the_files_give_are_kept(tmp_path: Path, fake: str) -> None:
    make(tmp_path, fake)
    corpus = read_corpus(tmp_path)
    assert sizes(corpus) == SIZES
    written = zip(fakes.captions().values(), fakes.SPLITS, strict=True)
    belongs = {tuple(captions): split for captions, split in written}
    assert all(
        belongs[image.captions] == split for split in SPLITS for image in corpus.splits[split]
    )


@pytest.mark.parametrize("fake", ["own_csv", "own_jsonl", "flickr8k", "parquet_list"])
def test_the_content_tells_where_the_name_does_not(tmp_path: Path, fake: str) -> None:
    file = make(tmp_path, fake)
    file.rename(file.with_stem("mine"))
    (file.parent / "Flickr8k.lemma.token.txt").unlink(missing_ok=True)
    assert len(read_corpus(tmp_path).images) == fakes.NUM_IMAGES


def test_lists_beside_captions_give_the_release_again(tmp_path: Path) -> None:
    make(tmp_path / "text", "flickr8k")
    make(tmp_path / "csv", "flickr8k_csv")
    for file in (tmp_path / "text" / "Flickr8k_text").glob("Flickr_8k.*"):
        shutil.copy(file, tmp_path / "csv")
    one, other = read_corpus(tmp_path / "text"), read_corpus(tmp_path / "csv")
    assert one.fingerprint == other.fingerprint


def test_lists_of_numbers_split_flickr30k(tmp_path: Path) -> None:
    make(tmp_path, "flickr30k_token")
    names = [name.removesuffix(".jpg") for name in fakes.captions()]
    for split, chosen in (("train", names[:10]), ("val", names[10:12]), ("test", names[12:13])):
        (tmp_path / f"{split}.txt").write_text("\n".join(chosen))
    corpus = read_corpus(tmp_path)
    assert sizes(corpus) == {"train": 10, "val": 2, "test": 1}
    assert any("7 captioned photos are in no list" in note for note in corpus.notes)


def test_drawn_splits_stay_when_images_are_added(tmp_path: Path) -> None:
    def belongs(seed: int, names: list[str]) -> dict[str, str]:
        rows = [f"{name},a caption" for name in names]
        (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows]))
        corpus = read_corpus(tmp_path, split_seed=seed)
        return {image.image_id: split for split in SPLITS for image in corpus.splits[split]}

    names = [f"{n}.jpg" for n in range(1000)]
    for name in names:
        (tmp_path / name).touch()
    few, many = belongs(0, names[:500]), belongs(0, names[::-1])
    assert few == {name: many[name] for name in few}
    assert belongs(1, names) != many
    counts = [sum(split == which for split in many.values()) for which in SPLITS]
    assert [round(count, -2) for count in counts] == [800, 100, 100]


def test_official_coco_splits_and_karpathys_where_his_file_lies_beside(tmp_path: Path) -> None:
    make(tmp_path, "coco2017")
    official = read_corpus(tmp_path)
    assert sizes(official)["test"] == 6
    assert len(official.splits["train"]) + len(official.splits["val"]) == 14
    assert any("val2017 is test here" in note for note in official.notes)
    shutil.rmtree(tmp_path)
    fakes.karpathy_coco(tmp_path, photos_of=2017)
    corpus = read_corpus(tmp_path)
    assert sizes(corpus) == SIZES
    assert {image.image_id for image in corpus.images} == {i.image_id for i in official.images}
    assert any("restval: joined training" in note for note in corpus.notes)
    assert any("data.dialect=coco2017" in note for note in corpus.notes)
    assert sizes(read_corpus(tmp_path, use_restval=False))["train"] == 13
    assert sizes(read_corpus(tmp_path, "coco2017")) == sizes(official)


def test_lists_of_photos_split_coco(tmp_path: Path) -> None:
    make(tmp_path, "coco2014")
    photos = sorted(path.name for path in tmp_path.glob("*2014/*.jpg"))
    for split, chosen in (("train", photos[:12]), ("val", photos[12:16]), ("test", photos[16:])):
        lines = [f"{name} {n}" for n, name in enumerate(chosen)]
        (tmp_path / f"karpathy_{split}_images.txt").write_text("\n".join(lines))
    assert sizes(read_corpus(tmp_path)) == {"train": 12, "val": 4, "test": 4}


def test_one_official_file_is_enough_to_test_on(tmp_path: Path) -> None:
    make(tmp_path, "coco2014").unlink()
    corpus = read_corpus(tmp_path)
    assert sizes(corpus) == {"train": 0, "val": 0, "test": 6}
    corpus.require("test")
    with pytest.raises(DataError, match="the train split has no images"):
        corpus.require("train")


def test_the_known_broken_row_of_flickr30k_is_read_with_a_note(tmp_path: Path) -> None:
    file = make(tmp_path, "flickr30k_table")
    lines = file.read_text().split("\n")
    lines[5] = lines[5].replace("| 4| ", "| 4   ")
    file.write_text("\n".join(lines))
    corpus = read_corpus(tmp_path)
    assert sorted(image.captions for image in corpus.images) == sorted(
        tuple(each) for each in fakes.captions().values()
    )
    assert any(note.startswith("line 6 of results.csv lacks") for note in corpus.notes)


def test_of_karpathys_three_files_the_one_with_photos_is_read(tmp_path: Path) -> None:
    file = make(tmp_path, "karpathy_flickr8k")
    other = file.read_text()
    for name in fakes.captions():
        other = other.replace(name, f"x{name}")
    (tmp_path / "dataset_coco.json").write_text(other)
    assert len(read_corpus(tmp_path).images) == fakes.NUM_IMAGES


def test_photos_in_tables_are_unpacked_once(tmp_path: Path) -> None:
    make(tmp_path / "data", "parquet_list")
    first = read_corpus(tmp_path / "data", unpack_dir=tmp_path / "photos").images[0]
    assert first.path.read_bytes() == fakes.photo(0)
    first.path.write_bytes(b"kept")
    again = read_corpus(tmp_path / "data", unpack_dir=tmp_path / "photos").images[0]
    assert again.path == first.path
    assert again.path.read_bytes() == b"kept"


TEXTS = ["flickr8k", "flickr8k_csv", "flickr30k_token", "flickr30k_table", "own_csv", "own_jsonl"]
JSONS = ["karpathy_flickr8k", "coco2017"]


@pytest.mark.parametrize("fake", TEXTS + JSONS)
def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path: Path, fake: str) -> None:
    file = make(tmp_path, fake)
    before = read_corpus(tmp_path).fingerprint
    text = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + text)
    assert read_corpus(tmp_path).fingerprint == before


@pytest.mark.parametrize("fake", TEXTS + JSONS)
@pytest.mark.parametrize(
    "odd", ["x\u2028y", "x\x0by", "x\x1cy", "x\x85y", "\u202ex", "word " * 9999 + "word"]
)
def test_odd_captions_are_read_whole(tmp_path: Path, fake: str, odd: str) -> None:
    file = make(tmp_path, fake)
    escaped = json.dumps(odd)[1:-1] if file.suffix in (".json", ".jsonl") else odd
    marker = " , there ."
    file.write_bytes(file.read_bytes().replace(marker.encode(), escaped.encode(), 1))
    written = [caption for image in read_corpus(tmp_path).images for caption in image.captions]
    assert len(written) == fakes.NUM_IMAGES * fakes.NUM_CAPTIONS
    assert sum(caption.endswith(odd) for caption in written) == 1


@pytest.mark.parametrize("fake", fakes.FAKES)
def test_a_photo_that_is_missing_is_an_error_and_one_without_caption_a_note(
    tmp_path: Path, fake: str
) -> None:
    make(tmp_path, fake)
    first = read_corpus(tmp_path).images[0]
    shutil.copy(first.path, first.path.with_stem("stranger"))
    if not fake.startswith("parquet"):
        assert any("1 more photos lie beside" in note for note in read_corpus(tmp_path).notes)
    first.path.unlink()
    with pytest.raises(DataError, match=r"photo .* is missing \(1 of 20 are\)"):
        read_corpus(tmp_path)


def _changed(old: str, new: str, times: int = 1) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, times)

    return change


def _duplicate_line(number: int) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = text.split("\n")
        return "\n".join([*lines[: number + 1], *lines[number:]])

    return change


FIRST = next(iter(fakes.captions()))
# (fake, what becomes of its file, what is told)
BROKEN: dict[str, tuple[str, Callable[[str], str], str]] = {
    "token: commas": ("flickr8k", lambda s: s.replace("\t", ","), "line 1: expected 'IMAGE"),
    "token: empty caption": ("flickr30k_token", lambda s: "x.jpg#0\t \n" + s, "line 1: .*is empty"),
    "token: twice": ("flickr30k_token", _duplicate_line(0), "line 2: .*#0 was there before"),
    "token: half a line": ("flickr30k_token", lambda s: s + "123_", "line 101: expected"),
    "token: empty": ("flickr30k_token", lambda s: "", "is empty"),
    "token: no photo": ("flickr30k_token", lambda s: s + "x.jpg#0\tx", "line 101: photo x.jpg is"),
    "table: tabs": ("flickr30k_table", lambda s: s.replace("|", "\t"), "line 1: expected the head"),
    "table: tab": ("flickr30k_table", _changed("| 1|", "| 1\t"), "line 3: expected 'IMAGE"),
    "table: twice": ("flickr30k_table", _duplicate_line(1), "line 3: caption 0 of .* was there"),
    "table: empty": ("flickr30k_table", lambda s: s + "x.jpg| 0| \n", "line 102: .*is empty"),
    "csv: semicolons": ("own_csv", lambda s: s.replace(",", ";"), "line 1: expected the header"),
    "csv: commas": ("own_csv", lambda s: s + "x.jpg,a, b,c,train", "line 102: expected 3 fields"),
    "csv: half": ("own_csv", lambda s: s + "123_", "line 102: expected 3 fields, found 1"),
    "csv: open quote": ("own_csv", lambda s: s + 'x.jpg,"a ,train\n', "not comma-separated"),
    "csv: empty caption": ("own_csv", lambda s: s + "x.jpg,,train", "line 102: .*is empty"),
    "csv: no name": ("own_csv", lambda s: s + ",x,train", "line 102: expected the name of an im"),
    "csv: two splits": ("own_csv", lambda s: s + f"{FIRST},x,test", "'test' here and 'train' bef"),
    "csv: a new split": ("own_csv", lambda s: s + "x.jpg,x,tran", "line 102: split 'tran' is unkn"),
    "csv: header alone": ("own_csv", lambda s: "image,caption\n", "names no image"),
    "jsonl: half": ("own_jsonl", lambda s: s[:-30], "line 20 is not valid JSON"),
    "jsonl: shape": ("own_jsonl", lambda s: s + "[1]", "line 21: expected"),
    "jsonl: caption": ("own_jsonl", lambda s: s + '{"image": "x", "caption": 1}', "expected a cap"),
    "jsonl: empty": ("own_jsonl", lambda s: s + '{"image": "x", "caption": ""}', "is empty"),
    "jsonl: surrogate": (
        "own_jsonl",
        lambda s: s + '{"image": "x", "caption": "\\ud800"}',
        "line 21: expected a caption",
    ),
    "jsonl: some split": (
        "own_jsonl",
        _changed(', "split": "train"', ""),
        "line 1: image .* has no split, and others have",
    ),
    "karpathy: half": ("karpathy_flickr8k", lambda s: s[: len(s) // 2], "is not valid JSON"),
    "karpathy: shape": ("karpathy_flickr8k", lambda s: '{"photos": []}', 'expected {"images"'),
    "karpathy: entry": ("karpathy_flickr8k", _changed('"split"', '"part"'), "image 1: expected fi"),
    "karpathy: split": ("karpathy_flickr8k", _changed('"val"', '"v"'), "image 15: split 'v' is"),
    "karpathy: raw": ("karpathy_flickr8k", _changed('"raw"', '"r"'), "image 1: expected a capt"),
    "karpathy: no image": ("karpathy_flickr8k", lambda s: '{"images": []}', "names no image"),
    "karpathy: twice": (
        "karpathy_flickr8k",
        lambda s: s.replace([*fakes.captions()][1], FIRST),
        "image 2: image .* was there before .*image 1",
    ),
    "coco: half": ("coco2017", lambda s: s[:-100], "is not valid JSON"),
    "coco: shape": ("coco2017", lambda s: "[" * 100_000, "is not valid JSON"),
    "coco: no captions": ("coco2017", _changed('"annotations"', '"boxes"'), 'expected {"images"'),
    "coco: id": (
        "coco2017",
        _changed('"image_id": 9,', '"image_id": 8,'),
        r"annotation \d+: image_id 8",
    ),
    "coco: text id": ("coco2017", _changed('"id": 9}', '"id": "9"}'), "image 1: expected id and"),
    "coco: twice": ("coco2017", _changed('"id": 16}', '"id": 9}'), "image 2: image '9' was there"),
    "coco: id twice": (
        "coco2017",
        _changed('"id": 10,', '"id": 0,'),
        r"annotation \d+: id 0 was th",
    ),
    "coco: caption": ("coco2017", _changed('"caption"', '"text"'), "annotation 1: expected a capt"),
    "coco: no caption": (
        "coco2017",
        lambda s: json.dumps(json.loads(s) | {"annotations": []}),
        "image 1: image 9 has no caption",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line_that_names_file_and_place(tmp_path: Path, case: str) -> None:
    fake, change, told = BROKEN[case]
    file = make(tmp_path, fake)
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=told) as error:
        read_corpus(tmp_path)
    assert file.name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fake", TEXTS + JSONS)
def test_latin_1_is_told_with_its_line(tmp_path: Path, fake: str) -> None:
    file = make(tmp_path, fake)
    data = file.read_bytes().replace(b"caf\\u00e9", "café".encode())
    file.write_bytes(data.decode().encode("latin-1"))
    with pytest.raises(DataError, match=rf"{file.name}, line \d+: not UTF-8"):
        read_corpus(tmp_path)


def test_empty_captions_of_a_release_in_json_are_counted(tmp_path: Path) -> None:
    file = make(tmp_path, "coco2017")
    found = json.loads(file.read_text())
    found["annotations"][3]["caption"] = " \n"
    file.write_text(json.dumps(found))
    assert any("1 captions are empty" in note for note in read_corpus(tmp_path).notes)


def test_nothing_and_several_dialects_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read_corpus(tmp_path / "none")
    with pytest.raises(DataError, match=r"no captions were found.*captions\.csv.*captions\.jsonl"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match=r"data\.dialect=csw is unknown; use auto, flickr8k"):
        read_corpus(tmp_path, "csw")
    make(tmp_path / "a", "own_csv")
    make(tmp_path / "b", "own_jsonl")
    with pytest.raises(DataError, match=r"several dialects fit: csv \(.*, jsonl \(.*data\.dialect"):
        read_corpus(tmp_path)
    assert len(read_corpus(tmp_path, "csv").images) == fakes.NUM_IMAGES
    shutil.copy(tmp_path / "a" / "captions.csv", tmp_path / "a" / "more.csv")
    (tmp_path / "a" / "captions.csv").rename(tmp_path / "a" / "others.csv")
    with pytest.raises(DataError, match="several files hold captions"):
        read_corpus(tmp_path / "a")


def test_photos_without_names_in_a_table_are_numbered(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for column in ([{"bytes": fakes.photo(0)}], [{"bytes": b"x", "path": None}], [b"x"]):
        table = pa.table({"image": column, "caption_0": ["a"], "caption_1": ["b"]})
        pq.write_table(table, tmp_path / "validation-00000.parquet")
        (image,) = read_corpus(tmp_path).splits["val"]
        assert image.image_id == "validation-00000_000000"
        assert image.captions == ("a", "b")


def test_a_table_of_another_shape_is_told(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(**columns: list[object]) -> None:
        pq.write_table(pa.table(columns), tmp_path / "train.parquet")

    write(image=[b"x"], text=["a"])
    with pytest.raises(DataError, match=r"train.parquet: expected columns image and caption"):
        read_corpus(tmp_path)
    write(image=[b"x", None], caption=["a", "b"])
    with pytest.raises(DataError, match=r"train.parquet, row 2: there is no photo"):
        read_corpus(tmp_path)
    write(image=[b"x"], caption=["a"], filename=["../../x.jpg"])
    with pytest.raises(DataError, match=r"row 1: '../../x.jpg' is no photo's file name"):
        read_corpus(tmp_path)
    write(image=[b"x", b"y"], caption=["a", "b"], filename=["x", "x"])
    with pytest.raises(DataError, match=r"row 2: image 'x' was there before"):
        read_corpus(tmp_path)
    write(image=[b"x"], caption=["a"], split=["tset"])
    with pytest.raises(DataError, match=r"row 1: split 'tset' is unknown"):
        read_corpus(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"train.parquet is not a readable Parquet table"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("fake", fakes.FAKES)
def test_random_damage_is_nothing_but_our_error(tmp_path: Path, fake: str) -> None:
    file = make(tmp_path / "data", fake)
    whole = file.read_bytes()
    rng = random.Random(fake)
    told: list[str] = []
    for _ in range(40):
        data = bytearray(whole)
        if rng.random() < 0.4:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice([0, 1, 1, 3, 30])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        dialect = rng.choice(["auto", fakes.FAKES[fake][1], rng.choice(list(DIALECTS))])
        try:
            read_corpus(tmp_path / "data", dialect, unpack_dir=tmp_path / "photos")
        except DataError as error:
            told.append(str(error))
    assert told
    assert all("\n" not in each for each in told)
