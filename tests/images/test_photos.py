"""Photos as people have them."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionlab.errors import DataError
from captionlab.images.photos import examine_photos, read_image

RAMP = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (24, 1))  # 24 rows, 32 columns
COLOUR = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=-1)


def _sixteen(path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path, "PNG")


def _palette(path: Path) -> None:
    image = Image.fromarray(np.repeat([[0, 1]], 16, axis=1).astype(np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(path, "PNG", transparency=0)


def _rotated(path: Path) -> None:
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(path, "PNG", exif=exif)


def _animated(path: Path) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue", "green")]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def _cmyk(path: Path) -> None:
    Image.new("CMYK", (32, 24), (0, 255, 255, 0)).save(path, "JPEG", quality=100)


KINDS: dict[str, tuple[Callable[[Path], None], np.ndarray, int]] = {
    "colour": (lambda p: Image.fromarray(COLOUR).save(p, "PNG"), COLOUR, 0),
    "grey": (lambda p: Image.fromarray(RAMP).save(p, "PNG"), np.stack([RAMP] * 3, -1), 0),
    "16-bit grey": (_sixteen, np.stack([RAMP] * 3, -1), 0),
    "CMYK": (_cmyk, np.tile(np.uint8([255, 0, 0]), (24, 32, 1)), 3),
    "EXIF-rotated": (_rotated, np.rot90(COLOUR, -1), 0),
    "animated": (_animated, np.tile(np.uint8([255, 0, 0]), (24, 32, 1)), 0),
    "palette with transparency, on white": (
        _palette,
        np.repeat(np.uint8([[[255, 255, 255], [200, 100, 50]]]), 16, axis=1),
        0,
    ),
    "half transparent, on white": (
        lambda p: Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(p, "PNG"),
        np.full((4, 4, 3), 127, np.uint8),
        0,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_is_read_right(tmp_path: Path, kind: str) -> None:
    write, expected, tolerance = KINDS[kind]
    write(tmp_path / "photo.jpg")
    read = np.asarray(read_image(tmp_path / "photo.jpg"))
    assert read.dtype == np.uint8
    assert read.shape == expected.shape
    np.testing.assert_allclose(read.astype(int), expected.astype(int), atol=tolerance)


def _truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:3000])


def _bomb(path: Path) -> None:
    """A PNG of a few hundred bytes that says it is 60,000 x 60,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "zero bytes": (lambda p: p.touch(), "it is empty"),
    "truncated": (_truncated, "truncated"),
    "a text file": (lambda p: p.write_text("hello\n") and None, "it begins with b'hello"),
    "a folder": (lambda p: p.mkdir(), "Is a directory"),
    "missing": (lambda p: None, "No such file"),
    "a decompression bomb": (_bomb, "decompression bomb"),
    "a thread": (lambda p: Image.new("RGB", (1, 9000)).save(p, "PNG"), "1x9000 pixels"),
    "floating-point": (lambda p: Image.new("F", (4, 4)).save(p, "TIFF"), "floating-point"),
    "32-bit": (lambda p: Image.new("I", (4, 4), 70_000).save(p, "TIFF"), "32-bit"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_photo_is_one_line_that_names_the_file(tmp_path: Path, kind: str) -> None:
    write, message = BAD[kind]
    write(tmp_path / "photo.jpg")
    with pytest.raises(DataError, match=message) as error:
        read_image(tmp_path / "photo.jpg")
    assert str(tmp_path / "photo.jpg") in str(error.value)
    assert "\n" not in str(error.value)


def test_any_damage_is_our_error(tmp_path: Path) -> None:
    """No byte of a photo makes Pillow raise anything else, or hang."""
    path = tmp_path / "photo"
    random = np.random.default_rng(1)
    for format in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        Image.fromarray(COLOUR).save(path, format, exif=Image.Exif())
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            where = random.integers(0, len(whole), 4)
            damaged[where] = random.integers(0, 256, 4)
            path.write_bytes(damaged[: random.integers(1, len(whole) + 1)].tobytes())
            with contextlib.suppress(DataError):
                assert read_image(path).mode == "RGB"


def test_workers_examine_all_photos_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(70)]
    for number, path in enumerate(paths):
        Image.new("L", (2, 2), number).save(path)
    paths[3].write_bytes(b"no photo")
    paths[68].write_bytes(b"")
    outcomes = list(examine_photos(paths, num_workers=2))
    assert [i for i, (reason, _) in enumerate(outcomes) if reason] == [3, 68]
    assert [digest for _, digest in outcomes if digest] == [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for i, path in enumerate(paths)
        if i not in (3, 68)
    ]
