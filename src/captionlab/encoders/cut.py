"""A published classifier cut down to a feature map and a whole-image vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from captionlab.encoders.stages import Stage, find_stages, is_map, shape_of
from captionlab.errors import ConfigError
from captionlab.options import Count

Pooled = Literal["features", "logits"]
Train = Literal["none", "last", "all"] | Count
_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """The network without memory for its weights."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # torchvision's RegNet computes its widths with tensors
        return build().to("meta")


def cut_network(
    build: Callable[[], nn.Module], name: str, image_size: int, pooled: Pooled, stage: int | None
) -> tuple[fx.GraphModule, list[Stage]]:
    """A classifier without what comes after map and vector, on the meta device.

    Args:
        build: makes the classifier.
        name: of it, for messages.
        image_size: side of an input that suits it, in pixels.
        pooled: the vector: before the last linear layer (`features`) or the `logits`.
        stage: the network ends after it, counted from 1; None for the whole network.

    Returns:
        The network, giving `grid`, and `pooled` unless it ends after a stage; and its stages.

    Raises:
        ConfigError: if there is no such map, vector or stage.
    """
    if pooled not in get_args(Pooled):
        raise ValueError(f"pooled={pooled!r} is unknown; use features or logits.")
    trunk = fx.symbolic_trace(on_meta(build).eval())
    ShapeProp(trunk).propagate(torch.empty(1, 3, image_size, image_size, device="meta"))
    layers = dict(trunk.named_modules())
    *nodes, output = trunk.graph.nodes
    grid = vector = None
    for node in nodes:
        layer = layers[node.target] if node.op == "call_module" else None
        if is_map(node) and not isinstance(layer, _POOLINGS):
            grid = node
        if isinstance(layer, nn.Linear):
            vector = node.args[0]
    if pooled == "logits":
        vector = output.args[0]
    if grid is None or (stage is None and (vector is None or len(shape_of(vector)) != 2)):
        raise ConfigError(
            f"encoder architecture {name} shows no "
            f"{'feature map' if grid is None else 'linear layer over a whole-image vector'}; "
            f"use {'another architecture' if grid is None else 'encoder.pooled=logits'}."
        )
    stages = find_stages(trunk, grid, image_size)
    if stage is None:
        output.args = ({"grid": grid, "pooled": vector},)
    else:
        _end_at(_map_of(stages, stage, name), output)
    trunk.graph.eliminate_dead_code()
    trunk.delete_all_unused_submodules()
    trunk.recompile()
    return trunk, stages[:stage]


def _map_of(stages: list[Stage], number: int, name: str) -> fx.Node:
    if number < 1:
        raise ValueError(f"stage={number} must be at least 1; use None for the whole network.")
    if number > len(stages):
        raise ConfigError(
            f"encoder.stage={number}, but {name} has {len(stages)} stages; use at most that "
            "number, or null for the whole network."
        )
    node = stages[number - 1].map
    if node is None:
        raise ConfigError(
            f"encoder.stage={number} of {name} makes no feature map of the whole image; use "
            "another, or null for the whole network."
        )
    return node


def _end_at(node: fx.Node, output: fx.Node) -> None:
    """Give the map of a stage, as (1, C, rows, columns) or (1, 1 + P, C), and drop what follows."""
    graph, shape = node.graph, shape_of(node)
    output.args = ({"grid": node},)
    nodes = list(graph.nodes)
    for later in reversed(nodes[nodes.index(node) + 1 : -1]):  # assertions count as alive
        graph.erase_node(later)
    if len(shape) == 4 and shape[2] != shape[3]:  # channels last, as in Swin and ConvNeXt
        with graph.inserting_after(node):
            order = (node, (0, 3, 1, 2))
            channels_first = graph.create_node(
                "call_function", torch.permute, order, name=f"{node.name}_permute"
            )
        output.args = ({"grid": channels_first},)


def output_names(cut: fx.GraphModule) -> list[str]:
    """What tells one cut of a network from another: its nodes, and how the vector is made."""
    outputs: Any = cut.graph.output_node().args[0]
    names = [node.name for node in outputs.values()]
    return names if "pooled" in outputs else [*names, "mean"]


def trained_parameters(
    cut: fx.GraphModule, stages: list[Stage], name: str, train: Train
) -> set[str]:
    """Names of the parameters that `train` asks for, of those that the cut has kept."""
    words = {"none": 0, "last": 1, "all": len(stages)}
    num_trained = words[train] if train in words else int(train)
    if train not in words and num_trained < 1:
        raise ValueError(f"train={train!r} must be at least 1; use none to train no stage.")
    if num_trained > len(stages):
        raise ConfigError(
            f"encoder.train={train}, but {name} has {len(stages)} stages up to its map; use at "
            "most that number, or all."
        )
    names = {name for stage in stages[len(stages) - num_trained :] for name in stage.parameters}
    return names & {name for name, _ in cut.named_parameters()}
