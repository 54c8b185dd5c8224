"""Checkpoints are whole, or refused."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from captionlab.errors import StorageError
from captionlab.training import checkpoints
from captionlab.training.checkpoints import CheckpointFiles, latest_checkpoint, read_checkpoint

FILES = CheckpointFiles()


def save(path: Path, number: int, previous: Path | None = None) -> None:
    options = None if previous is None else {"previous": previous}
    content = {"number": number, "weights": torch.full((1000,), float(number))}
    FILES.save_checkpoint(content, path, options)


def number(path: Path) -> int:
    return int(FILES.load_checkpoint(path)["number"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_can_be_read_by_torch_too(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    save(path, 7)
    assert number(path) == torch.load(path, weights_only=True)["number"] == 7
    assert names(path.parent) == ["last.ckpt"]


def test_a_plain_file_of_torch_can_be_read(tmp_path: Path) -> None:
    torch.save({"number": 3}, tmp_path / "plain.ckpt")
    assert number(tmp_path / "plain.ckpt") == 3


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.8, 0.999])
def test_flipped_bytes_are_refused_in_one_line(tmp_path: Path, place: float) -> None:
    path = tmp_path / "best.ckpt"
    save(path, 1)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"best\.ckpt is damaged") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 10, 1000, -1])
def test_a_torn_file_is_refused_in_one_line(tmp_path: Path, length: int) -> None:
    path = tmp_path / "best.ckpt"
    save(path, 1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match=r"best\.ckpt is damaged"):
        read_checkpoint(path)


def test_the_previous_one_stands_in_for_one_that_is_torn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    assert latest_checkpoint(last, previous) is None
    for i in (1, 2):
        save(last, i, previous)
    found = latest_checkpoint(last, previous)
    assert found is not None
    assert (found[0], found[1]["number"]) == (last, 2)
    last.write_bytes(last.read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        found = latest_checkpoint(last, previous)
    assert found is not None
    assert (found[0], found[1]["number"]) == (previous, 1)
    assert "last.ckpt is damaged" in caplog.text
    last.unlink()  # killed between two renamings
    assert latest_checkpoint(last, previous) is not None
    previous.write_bytes(b"")
    with pytest.raises(StorageError, match=r"previous\.ckpt is damaged"):
        latest_checkpoint(last, previous)


def test_a_disk_that_fills_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for i in (1, 2):
        save(last, i, previous)

    def half(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", half)
        with pytest.raises(StorageError, match=r"last\.ckpt cannot be written \(No space") as error:
            save(last, 3, previous)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]
    assert (number(last), number(previous)) == (2, 1)
    save(last, 3, previous)
    assert (number(last), number(previous)) == (3, 2)


def test_what_cannot_be_read_back_takes_no_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = tmp_path / "last.ckpt"
    save(last, 1)

    def write(path: Path, content: bytes) -> Any:
        path.write_bytes(content[:300] + b"?" + content[301:])

    monkeypatch.setattr(checkpoints, "_write", write)
    with pytest.raises(StorageError, match=r"last\.ckpt cannot be written \(it reads back"):
        save(last, 2)
    assert number(last) == 1
    assert names(tmp_path) == ["last.ckpt"]
