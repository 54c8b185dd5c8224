"""Arrays in files that other programs wrote: npy, npz and safetensors; no pickle is ever read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captionlab.errors import DataError

SUFFIXES = (".npy", ".npz", ".safetensors")
_FLOATS = {"F16", "F32", "F64", "BF16"}  # as safetensors names them


@dataclass(frozen=True)
class Member:
    """An array in a file.

    Attributes:
        shape: of the array.
        dtype: its name, for people.
        is_float: whether it is floating point.
        open: gives what can be sliced along the first axis.
    """

    shape: tuple[int, ...]
    dtype: str
    is_float: bool
    open: Callable[[], Any]


def as_float(values: Any) -> Tensor:
    """A numpy array, which may lie on disk, or a tensor as float32 in memory of its own."""
    tensor = torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values
    return tensor.float()


def members(path: Path) -> dict[str, Member]:
    """The arrays of a file, whose values are not read yet; pickled objects are left out.

    Raises:
        DataError: if the file is damaged or of another kind.
    """
    readers: Mapping[str, Callable[[Path], dict[str, Member]]] = {
        ".npy": _of_npy,
        ".npz": _of_npz,
        ".safetensors": _of_safetensors,
    }
    try:
        return readers[path.suffix](path)
    except DataError:
        raise
    except Exception as error:  # zipfile, numpy and safetensors raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as a {path.suffix[1:]} file ({reason}).") from error


def ids_beside(path: Path, found: Mapping[str, Member]) -> list[str] | None:
    """The ids of a file's rows: its array `ids`, its metadata, or PATH with .ids.txt or .ids.json.

    Raises:
        DataError: if they are not texts or whole numbers.
    """
    known = next((found[name] for name in ("ids", "image_ids") if name in found), None)
    lines, values = path.with_suffix(".ids.txt"), path.with_suffix(".ids.json")
    try:
        if known is not None:
            return _texts(np.asarray(known.open()[...]).tolist())
        if path.suffix == ".safetensors" and (text := _metadata(path).get("ids")):
            return _texts(json.loads(text))
        if lines.exists():
            return lines.read_text(encoding="utf-8").splitlines()
        return _texts(json.loads(values.read_text(encoding="utf-8"))) if values.exists() else None
    except ValueError as error:
        raise DataError(
            f"the ids of {path} cannot be read ({error}); they are texts or whole numbers, one for "
            "each row."
        ) from error


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(v, str | int | bytes) for v in values):
        raise ValueError(f"found {values!r:.60}")
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _of_npy(path: Path) -> dict[str, Member]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return {"features": _member(array.shape, array.dtype, lambda: array)}


def _of_npz(path: Path) -> dict[str, Member]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                continue
            with archive.open(name) as file:
                has_short_header = np.lib.format.read_magic(file) == (1, 0)
                kind = np.lib.format
                read = (
                    kind.read_array_header_1_0 if has_short_header else kind.read_array_header_2_0
                )
                shape, _, dtype = read(file)
            if not dtype.hasobject:
                key = name.removesuffix(".npy")
                found[key] = _member(shape, dtype, _loader(path, key))
    return found


def _loader(path: Path, key: str) -> Callable[[], Any]:
    def load() -> Any:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]

    return load


def _of_safetensors(path: Path) -> dict[str, Member]:
    file = _open_safetensors(path)
    slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    return {
        key: Member(
            tuple(part.get_shape()),
            part.get_dtype(),
            part.get_dtype() in _FLOATS,
            partial(slices.get, key),
        )
        for key, part in slices.items()
    }


def _metadata(path: Path) -> Mapping[str, str]:
    return _open_safetensors(path).metadata() or {}


def _open_safetensors(path: Path) -> Any:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise DataError(f"{path} is read by safetensors: pip install safetensors.") from error
    return safe_open(path, framework="pt")


def _member(shape: tuple[int, ...], dtype: Any, load: Callable[[], Any]) -> Member:
    return Member(tuple(shape), str(dtype), dtype.kind == "f", load)
