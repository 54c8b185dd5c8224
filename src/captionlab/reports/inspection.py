"""What a file of weights holds, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captionlab.errors import printable
from captionlab.evaluation.result import Result
from captionlab.reports.model_facts import Facts, data_text, model_rows, score_rows


def inspection_rows(
    facts: Facts, result: Result | None, tensors: Mapping[str, Any]
) -> dict[str, str]:
    """What is known of a model, by what it is.

    Args:
        facts: see `captionlab.captioner.export.read_facts`.
        result: of its test; None if it is not known.
        tensors: all of the file, by name.
    """
    rows = dict(model_rows(facts))
    parts: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        parts.setdefault(name.partition(".")[0].replace("_", " "), []).append(tensor.numel())
    for part, sizes in parts.items():
        rows[f"tensors of {part}"] = f"{len(sizes)}, of {sum(sizes):,} numbers"
    if result is not None and result.training is not None:
        counts = result.training.parameters.items()
        rows["parameters"] = ", ".join(f"{name} {number:,.0f}" for name, number in counts)
    rows["data"] = data_text(facts)
    if "seed" in facts["config"]:
        rows["seed"] = str(facts["config"]["seed"])
    if result is not None:
        scores = ", ".join(f"{row.score.title} {row.value:.1f}" for row in score_rows(result))
        rows["scores x100"] = f"{scores} ({result.num_images} test images)"
        if result.training is not None:
            rows["epochs"] = f"{result.training.epochs}, the best {result.training.best_epoch}"
    versions = facts.get("versions") or {}
    if versions:
        rows["made by"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {name: printable(" ".join(text.split())) for name, text in rows.items()}
