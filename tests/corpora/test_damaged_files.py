"""A damaged file is one line that names the file and the place."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from captionlab.corpora import read_corpus
from captionlab.corpora.readers import dialects
from captionlab.errors import DataError
from tests.support import fakes

NOT_BINARY = [name for name, fake in fakes.FAKES.items() if fake.form != "table"]


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
# Name of a fake, change to its file, pattern of the error.
BROKEN: dict[str, tuple[str, Callable[[str], str], str]] = {
    "token: commas": ("flickr8k", lambda s: s.replace("\t", ","), "line 1: expected 'IMAGE"),
    "token: empty caption": ("flickr30k_token", lambda s: "x.jpg#0\t \n" + s, "line 1: .*is empty"),
    "token: twice": ("flickr30k_token", _duplicate_line(0), "line 2: .*#0 occurs twice"),
    "token: half a line": ("flickr30k_token", lambda s: s + "123_", "line 101: expected"),
    "token: empty": ("flickr30k_token", lambda s: "", "is empty"),
    "token: no photo": ("flickr30k_token", lambda s: s + "x.jpg#0\tx", "line 101: photo x.jpg is"),
    "table: tabs": ("flickr30k_table", lambda s: s.replace("|", "\t"), "line 1: expected the head"),
    "table: tab": ("flickr30k_table", _changed("| 1|", "| 1\t"), "line 3: expected 'IMAGE"),
    "table: twice": ("flickr30k_table", _duplicate_line(1), "line 3: caption 0 of .* occurs twice"),
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
        "image 2: image .* is already at .*image 1",
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
    "coco: twice": (
        "coco2017",
        _changed('"id": 16}', '"id": 9}'),
        "image 2: image '9' is already at .*image 1",
    ),
    "coco: id twice": (
        "coco2017",
        _changed('"id": 10,', '"id": 0,'),
        r"annotation \d+: id 0 occurs twice",
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
    fake, change, message = BROKEN[case]
    file = fakes.FAKES[fake].write(tmp_path)
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=message) as error:
        read_corpus(tmp_path)
    assert file.name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fake", NOT_BINARY)
def test_latin_1_is_an_error_with_its_line(tmp_path: Path, fake: str) -> None:
    file = fakes.FAKES[fake].write(tmp_path)
    data = file.read_bytes().replace(b"caf\\u00e9", "café".encode())
    file.write_bytes(data.decode().encode("latin-1"))
    with pytest.raises(DataError, match=rf"{file.name}, line \d+: not UTF-8"):
        read_corpus(tmp_path)


def test_a_table_of_another_shape_is_one_line(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match=r"row 2: image 'x' occurs twice"):
        read_corpus(tmp_path)
    write(image=[b"x"], caption=["a"], split=["tset"])
    with pytest.raises(DataError, match=r"row 1: split 'tset' is unknown"):
        read_corpus(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"train.parquet is not a readable Parquet table"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("fake", fakes.FAKES)
def test_random_damage_is_a_data_error_or_nothing(tmp_path: Path, fake: str) -> None:
    file = fakes.FAKES[fake].write(tmp_path / "data")
    whole = file.read_bytes()
    rng = random.Random(fake)
    messages: list[str] = []
    for _ in range(40):
        data = bytearray(whole)
        if rng.random() < 0.4:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice([0, 1, 1, 3, 30])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        dialect = rng.choice(["auto", fakes.FAKES[fake].dialect, rng.choice(list(dialects()))])
        try:
            read_corpus(tmp_path / "data", dialect, unpack_dir=tmp_path / "photos")
        except DataError as error:
            messages.append(str(error))
    assert messages
    assert all("\n" not in message for message in messages)
