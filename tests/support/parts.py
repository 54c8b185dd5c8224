"""The parts that ship, as `conf/` names them, at sizes that test quickly.

A new part has its class and its file in `conf/`, and every contract test runs over it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from captionlab.options import find_part, options_of

CONF = Path(__file__).parents[2] / "conf"
OTHER_GROUPS = {  # what a file's interpolations refer to
    "decoder": {"embedding_dim": 6, "hidden_dim": 8},
    "search": {"max_length": 6},
    "data": {"suggested": {"hidden_dim": 8, "attention_dim": 3, "dropout": 0.0}},
}
SIZES = {  # instead of a file's own
    "embedding_dim": 6,
    "feature_dim": 4,
    "image_dim": 3,
    "num_heads": 2,
    "feedforward_ratio": 2,
    "max_length": 6,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # a file, and what differs from it
    "dot_attention": ("dot_attention", {"attention_dim": 6}),
    "par_inject_first": ("par_inject", {"first_only": True}),
    "transformer": ("transformer", {"num_layers": 2}),
    "transformer_learned": ("transformer", {"num_layers": 2, "positions": "learned"}),
}


def names(group: str) -> list[str]:
    """All files of a group that name a class, and their variants."""
    files = [path.stem for path in sorted((CONF / group).glob("*.yaml"))]
    files = [file for file in files if "_target_" in _load(group, file)]
    variants = [name for name, (file, _) in VARIANTS.items() if file in files]
    return list(dict.fromkeys([*files, *variants]))


def part(group: str, name: str, **derived: Any) -> tuple[type[Any], dict[str, Any]]:
    """A part's class and the arguments of its constructor.

    Args:
        group: such as `conditioning`.
        name: of a file of the group, or of a variant.
        derived: arguments beside the options; those that it does not take are left out.
    """
    file, differences = VARIANTS.get(name, (name, {}))
    node = _load(group, file)
    sizes = {key: size for key, size in SIZES.items() if key in node}
    node.update({**sizes, **differences})
    tree: Any = OmegaConf.create({**OTHER_GROUPS, group: node})
    values = OmegaConf.to_container(tree, resolve=True)[group]
    kind: type[Any] = find_part(node["_target_"], object)
    options = {key: values[key] for key in options_of(kind) if key in values}
    parameters = inspect.signature(kind).parameters
    return kind, options | {key: value for key, value in derived.items() if key in parameters}


def _load(group: str, file: str) -> dict[str, Any]:
    """A file's values and those of the files that it is a variant of, interpolations as text."""
    node: Any = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{file}.yaml"))
    bases = [
        base for base in node.pop("defaults", []) if isinstance(base, str) and base != "_self_"
    ]
    values: dict[str, Any] = {}
    for base in bases:
        values |= _load(group, base)
    return values | node
