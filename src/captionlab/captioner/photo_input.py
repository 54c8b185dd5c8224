"""Photos from anywhere as an encoder's pixels, a batch at a time."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captionlab.errors import DataError
from captionlab.images.photos import SUFFIXES, read_image
from captionlab.images.preprocessing import plain_pixels
from captionlab.types import Preprocessing

Photo: TypeAlias = str | Path | Image.Image | NDArray[np.uint8]
"""A path, an http(s) address, an image of Pillow's, or uint8 (H, W, 3) or (H, W)."""

_LARGEST_DOWNLOAD = 32 * 2**20  # bytes
_SECONDS_TO_ANSWER = 10
_SECONDS_TO_DOWNLOAD = 60
_CHUNK = 2**16


def is_address(photo: object) -> bool:
    """Whether a photo is to be fetched."""
    return isinstance(photo, str) and photo.lower().startswith(("http://", "https://"))


def photos_in(folder: Path) -> list[Path]:
    """The photos in a folder and the folders in it, told by their suffix, by name.

    Raises:
        DataError: if there are none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"there are no photos in {folder}; looked for {', '.join(SUFFIXES)}.")
    return paths


def find_photos(what: str) -> list[str | Path]:
    """The photos that a word of a command line means.

    Args:
        what: an http(s) address, a folder, a pattern such as `*.jpg`, or a file, which need not
            exist.

    Raises:
        DataError: if a folder has no photos, or nothing matches a pattern.
    """
    if is_address(what):
        return [what]
    path = Path(what)
    if path.is_dir():
        return list(photos_in(path))
    if path.exists() or not glob.has_magic(what):
        return [path]
    matches = [Path(p) for p in sorted(glob.glob(what, recursive=True)) if Path(p).is_file()]
    if not matches:
        raise DataError(f"no file matches {what}; check the folder and the pattern's quotes.")
    return list(matches)


def decode(photo: Photo, name: str) -> Image.Image:
    """A photo upright, as 8-bit RGB.

    Args:
        photo: what `Photo` allows.
        name: what errors call it.

    Raises:
        DataError: if it cannot be downloaded or is no photo.
    """
    if isinstance(photo, Image.Image):
        return read_image(photo, name)
    if isinstance(photo, np.ndarray):
        grey_or_rgb = photo.ndim == 2 or (photo.ndim == 3 and photo.shape[2] == 3)
        if photo.dtype != np.uint8 or not grey_or_rgb or 0 in photo.shape:
            raise DataError(
                f"photo {name} is an array of {photo.dtype} {photo.shape}; give uint8 of shape "
                "(height, width, 3) or (height, width)."
            )
        return read_image(Image.fromarray(photo), name)
    if isinstance(photo, str | Path):
        return read_image(download(str(photo)) if is_address(photo) else Path(photo), name)
    raise DataError(
        f"photo {name} is a {type(photo).__name__}; give a path, an address, an image of "
        "Pillow's or an array."
    )


def download(address: str) -> bytes:
    """What an http(s) address answers, of a limited size and in a limited time.

    Raises:
        DataError: if it does not answer, answers with an error, too slowly or with too much.
    """
    content: Future[bytes] = Future()
    given_up = Event()

    def fetch() -> None:
        try:
            content.set_result(_fetch(address, given_up))
        except Exception as error:
            content.set_exception(error)

    # A socket limits each wait alone: names that are looked up and headers may take for ever.
    Thread(target=fetch, daemon=True).start()
    try:
        return content.result(_SECONDS_TO_DOWNLOAD)
    except TimeoutError as error:
        given_up.set()
        raise DataError(
            f"photo {address} takes longer than {_SECONDS_TO_DOWNLOAD} seconds; download it and "
            "name the file."
        ) from error


def _fetch(address: str, given_up: Event) -> bytes:
    content = b""
    try:
        request = Request(address, headers={"User-Agent": "captionlab"})
        with urlopen(request, timeout=_SECONDS_TO_ANSWER) as response:
            if urlsplit(response.url).scheme not in ("http", "https"):
                raise DataError(f"photo {address} leads to {response.url}, which is not fetched.")
            while not given_up.is_set() and (chunk := response.read1(_CHUNK)):
                content += chunk
                if len(content) > _LARGEST_DOWNLOAD:
                    raise DataError(
                        f"photo {address} has more than {_LARGEST_DOWNLOAD // 2**20} MB; download "
                        "it and name the file."
                    )
    except HTTPError as error:
        raise DataError(
            f"photo {address} cannot be downloaded: the server answers {error.code}; check the "
            "address."
        ) from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: no valid address
        cause = getattr(error, "reason", None) or error
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        if isinstance(cause, TimeoutError):
            reason = f"the server sent nothing for {_SECONDS_TO_ANSWER} seconds"
        raise DataError(f"photo {address} cannot be downloaded: {reason}.") from error
    return content


class _Decoded(Dataset[tuple[str | int, Tensor | str]]):
    """Indexed by what is to be decoded: pixels, or the reason why there are none."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __getitem__(self, item: tuple[str | int, Photo]) -> tuple[str | int, Tensor | str]:
        source, photo = item
        try:
            return source, plain_pixels(decode(photo, str(source)), self.preprocessing)
        except DataError as error:
            return source, str(error)  # a worker would wrap it in its own traceback


def decoded_batches(
    photos: Iterable[Photo], preprocessing: Preprocessing, batch_size: int, num_workers: int
) -> Iterator[list[tuple[str | int, Tensor | str]]]:
    """Photos in order, each its source and uint8 (3, S, S), or the reason why it cannot be read.

    Photos are taken from the iterable as they are needed, and a few batches ahead by workers.
    """
    loader: Any = DataLoader(
        _Decoded(preprocessing),
        batch_sampler=_batches(photos, batch_size),
        num_workers=num_workers,
        collate_fn=list,
        generator=torch.Generator(),  # the process's own is left as it is
    )
    return iter(loader)


def _batches(photos: Iterable[Photo], size: int) -> Iterator[list[tuple[str | int, Photo]]]:
    items = (
        (str(photo) if isinstance(photo, str | Path) else place, photo)
        for place, photo in enumerate(photos)
    )
    while batch := list(islice(items, size)):
        yield batch
