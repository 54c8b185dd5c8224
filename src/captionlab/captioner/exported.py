"""The format of an exported run: one safetensors file, everything but tensors in plain JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captionlab.errors import RunError, StorageError
from captionlab.files import write_atomically

FORMAT = 1
_KEY = "captionlab"  # of the metadata
_NEEDED = {"config": dict, "features": dict, "vocabulary": list}


def write_exported(path: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write an exported run, whole or not at all.

    Args:
        path: of the file.
        facts: in plain values; at least `config`, `features` and `vocabulary` of the run.
        tensors: by name, such as `decoder.embedding.weight`.

    Raises:
        StorageError: if the file cannot be written.
    """
    from safetensors.torch import save

    # Tied weights are written twice: safetensors takes no tensors that share memory.
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    whole = {"format": FORMAT, **facts}
    text = json.dumps({**whole, "digest": _digest(whole, own)}, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(own, {_KEY: text, "format": "pt"}))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}); name another file."
        ) from error


def read_exported(path: Path) -> dict[str, Any]:
    """An exported run as `read_checkpoint` gives it; nothing in the file is executed.

    Raises:
        RunError: if the file is no export of captionlab, or one of a later version.
        StorageError: if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StorageError(
            f"{path} is damaged: it is no whole safetensors file ({str(error).splitlines()[0]}); "
            "export the run again."
        ) from error
    facts = _parse(text)
    if facts is None:
        raise RunError(
            f"{path} is a safetensors file, but no run that captionlab exported; make one by "
            "`captionlab export RUN FILE`."
        )
    if facts["format"] != FORMAT:
        raise RunError(
            f"{path} has format {facts['format']!r:.20}, and this captionlab reads {FORMAT}; "
            "use the version that wrote it."
        )
    digest = facts.pop("digest", None)
    if digest != _digest(facts, tensors):
        raise StorageError(
            f"{path} is damaged: its content is not what was written; export the run again."
        )
    return {"captionlab": facts, "state_dict": tensors}


def _parse(text: str | None) -> dict[str, Any] | None:
    """What the metadata say; None if captionlab did not write them."""
    try:
        facts = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or "format" not in facts:
        return None
    fits = all(isinstance(facts.get(name), kind) for name, kind in _NEEDED.items())
    return facts if fits or facts["format"] != FORMAT else None


def _digest(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
