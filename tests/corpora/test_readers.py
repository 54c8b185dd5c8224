"""Every dialect is detected from its contents and read alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from captionlab.corpora import read_corpus
from captionlab.corpora.corpus import SPLITS, CaptionCorpus
from captionlab.corpora.readers import dialects
from captionlab.errors import DataError
from tests.support import fakes

SIZES = {"train": 14, "val": 3, "test": 3}
HAVE_SPLITS = [name for name, fake in fakes.FAKES.items() if fake.has_splits]
NOT_BINARY = [name for name, fake in fakes.FAKES.items() if fake.form != "table"]


def make(root: Path, fake: str) -> Path:
    """The file of a fake tree that holds its captions."""
    return fakes.FAKES[fake].write(root)


def sizes(corpus: CaptionCorpus) -> dict[str, int]:
    return {split: len(corpus.splits[split]) for split in SPLITS}


def test_every_reader_has_a_fake_data_set() -> None:
    assert {fake.dialect for fake in fakes.FAKES.values()} == dialects().keys()


@pytest.mark.parametrize("fake", fakes.FAKES)
def test_each_dialect_is_known_by_its_content_and_has_the_same_captions(
    tmp_path: Path, fake: str
) -> None:
    make(tmp_path / "data", fake)
    corpus = read_corpus(tmp_path / "data")
    assert corpus.name == "data"
    assert sorted(image.captions for image in corpus.images) == sorted(
        tuple(written) for written in fakes.captions().values()
    )
    assert all(image.path.is_file() for image in corpus.images)
    named = read_corpus(tmp_path / "data", fakes.FAKES[fake].dialect, "data")
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
        tuple(written) for written in fakes.captions().values()
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


def test_a_photo_whose_name_differs_in_case_is_named(tmp_path: Path) -> None:
    make(tmp_path, "own_csv")
    for photo in (tmp_path / "images").iterdir():
        photo.rename(photo.with_suffix(".JPG"))
    with pytest.raises(DataError, match=r"is missing \(20 of 20 are\); name it as .*JPG, or"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("fake", NOT_BINARY)
def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path: Path, fake: str) -> None:
    file = make(tmp_path, fake)
    before = read_corpus(tmp_path).fingerprint
    text = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + text)
    assert read_corpus(tmp_path).fingerprint == before


@pytest.mark.parametrize("fake", NOT_BINARY)
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


def test_empty_captions_of_a_release_in_json_are_counted(tmp_path: Path) -> None:
    file = make(tmp_path, "coco2017")
    content = json.loads(file.read_text())
    content["annotations"][3]["caption"] = " \n"
    file.write_text(json.dumps(content))
    assert any("1 captions are empty" in note for note in read_corpus(tmp_path).notes)


def test_no_dialect_and_several_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read_corpus(tmp_path / "none")
    with pytest.raises(DataError, match=r"no captions were found.*captions\.csv.*captions\.jsonl"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match=r"data\.dialect=csw is unknown; did you mean csv\?"):
        read_corpus(tmp_path, "csw")
    make(tmp_path / "a", "own_csv")
    make(tmp_path / "b", "own_jsonl")
    with pytest.raises(DataError, match=r"several dialects fit: csv \(.*, jsonl \(.*data\.dialect"):
        read_corpus(tmp_path)
    assert len(read_corpus(tmp_path, "csv").images) == fakes.NUM_IMAGES
    shutil.copy(tmp_path / "a" / "captions.csv", tmp_path / "a" / "more.csv")
    (tmp_path / "a" / "captions.csv").rename(tmp_path / "a" / "others.csv")
    assert len(read_corpus(tmp_path, "csv").images) == fakes.NUM_IMAGES, "one is a copy"
    with (tmp_path / "a" / "more.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(DataError, match="several files hold captions"):
        read_corpus(tmp_path / "a")


def test_two_data_sets_below_one_root_are_not_taken_for_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, "own_csv")
    assert len(read_corpus(tmp_path).images) == fakes.NUM_IMAGES, "copies"
    with (tmp_path / "b" / "captions.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(DataError, match=r"several files hold captions \(.*a/cap.*, .*b/cap"):
        read_corpus(tmp_path)
    make(tmp_path, "own_csv")
    assert len(read_corpus(tmp_path).images) == fakes.NUM_IMAGES, "the root's own comes first"


def test_photos_without_names_in_a_table_are_numbered(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for column in ([{"bytes": fakes.photo(0)}], [{"bytes": b"x", "path": None}], [b"x"]):
        table = pa.table({"image": column, "caption_0": ["a"], "caption_1": ["b"]})
        pq.write_table(table, tmp_path / "validation-00000.parquet")
        (image,) = read_corpus(tmp_path).splits["val"]
        assert image.image_id == "validation-00000_000000"
        assert image.captions == ("a", "b")
