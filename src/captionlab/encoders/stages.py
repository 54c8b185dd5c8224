"""The stages of a network: the layers that work at one spatial resolution, and their maps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from torch import fx, nn

_NUMBERED = re.compile(r"(.*?\D\d+)(\.|$)")


class Stage(NamedTuple):
    """The layers of one resolution, or one layer of a transformer.

    Attributes:
        parameters: names in the network.
        map: the last feature map that it makes, of shape (1, C, rows, columns), or
            (1, rows, columns, C), or (1, 1 + P, C); None where there is none.
    """

    parameters: list[str]
    map: fx.Node | None


def find_stages(trunk: fx.GraphModule, last: fx.Node, image_size: int) -> list[Stage]:
    """The layers that `last` depends on, stage by stage, from the image on.

    A stage is the layers of one resolution, counted in halvings of the image's: ResNet's stem and
    its four layers, VGG's conv1 to conv5. A residual block is never divided and belongs to the
    resolution of its output. Where the network works on a sequence of patches, each of its
    numbered layers is a stage. A stage's map lies between two blocks, never inside one, and before
    any pooling that lowers the resolution.

    Args:
        trunk: traced, with the shapes for one square image on its nodes.
        last: the feature map.
        image_size: of that image.
    """
    stages: list[Stage] = []
    current = None
    for names, node in _blocks(trunk, last):
        shape = shape_of(node)
        resolution = _resolution(shape, image_size) if len(shape) == 4 else None
        if names:
            stage = resolution or _layer(names[0])
            if not stages or (stage or current) != current:
                stages.append(Stage([], None))
                current = stage
            stages[-1].parameters.extend(names)
        if stages and _is_map_of(node, resolution, current):
            stages[-1] = stages[-1]._replace(map=node)
    return stages


def _is_map_of(node: fx.Node, resolution: str | None, stage: str | None) -> bool:
    """Whether a node that carries all that follows gives a map of the current stage."""
    if len(shape_of(node)) == 4:
        return is_map(node) and resolution == stage and not _is_inside_block(node)
    return is_map(node)


def _is_inside_block(node: fx.Node) -> bool:
    """Whether a module with a `forward` of its own, below the whole network, has made it midway."""
    user = next(iter(node.users))
    inside, behind = (
        {
            name
            for name, kind in n.meta.get("nn_module_stack", {}).values()
            if kind is not nn.Sequential
        }
        for n in (node, user)
    )
    return not inside.isdisjoint(behind)


def _blocks(trunk: fx.GraphModule, last: fx.Node) -> Iterator[tuple[list[str], fx.Node]]:
    """Split the graph where a single tensor carries all that follows.

    Yields:
        Names of the parameters since the last such point, and the node of that tensor.
    """
    nodes = list(trunk.graph.nodes)
    nodes = nodes[: nodes.index(last) + 1]
    place = {node: i for i, node in enumerate(nodes)}
    layers = dict(trunk.named_modules())
    parameters = {name for name, _ in trunk.named_parameters()}
    of_image: set[fx.Node] = set()
    live: dict[fx.Node, int] = {}  # tensors that depend on the image: the place of their last use
    names: list[str] = []
    for i, node in enumerate(nodes):
        if node.op == "call_module":
            inside = layers[str(node.target)].named_parameters(prefix=str(node.target))
            names += [name for name, _ in inside]
        elif node.op == "get_attr" and node.target in parameters:
            names.append(str(node.target))
        if node.op == "placeholder" or not of_image.isdisjoint(node.all_input_nodes):
            of_image.add(node)
        shape = shape_of(node)
        if node not in of_image or not shape:
            continue
        live[node] = max((place.get(user, -1) for user in node.users), default=i)
        live = {other: use for other, use in live.items() if use > i or other is node}
        if live.keys() == {node}:
            yield names, node
            names = []


def is_map(node: fx.Node) -> bool:
    """Whether a node gives more than one position of one image.

    Its shape is (1, C, rows, columns), (1, rows, columns, C), or (1, 1 + P, C) with the class token
    first and P a square number.
    """
    shape = shape_of(node)
    if len(shape) == 3:
        return shape[0] == 1 and shape[1] > 1 and math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1
    return len(shape) == 4 and shape[0] == 1 and min(shape[2:]) > 1


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape of a node's output, recorded by `ShapeProp`; empty if it is no tensor."""
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))


def _resolution(shape: tuple[int, ...], image_size: int) -> str | None:
    """Halvings of the image's side, for square maps (1, C, s, s) or (1, s, s, C)."""
    for side, other in ((shape[2], shape[3]), (shape[1], shape[2])):
        if side == other:
            return f"{math.log2(image_size / side):.0f} halvings"
    return None


def _layer(name: str) -> str | None:
    """The parameter's name up to its first number, such as `encoder.layers.encoder_layer_3`."""
    match = _NUMBERED.match(name)
    return match and match[1]
