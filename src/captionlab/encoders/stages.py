"""Which layers of a network work at one spatial resolution."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from torch import fx

_NUMBERED = re.compile(r"(.*?\D\d+)(\.|$)")


def find_stages(trunk: fx.GraphModule, last: fx.Node, image_size: int) -> list[list[str]]:
    """The parameters that `last` depends on, by stage, from the image on.

    A stage is what works at one resolution, counted in halvings of the image's: ResNet's stem and
    its four layers, VGG's conv1 to conv5. A residual block is never divided and belongs to the
    resolution that it ends with. Where the network works on a sequence of patches, each of its
    numbered layers is a stage.

    Args:
        trunk: traced, its nodes bearing the shapes for one square image.
        last: the feature map.
        image_size: of that image.

    Returns:
        Names of parameters of `trunk`.
    """
    stages: list[list[str]] = []
    current = None
    for names, shape in _blocks(trunk, last):
        if not names:
            continue
        stage = _resolution(shape, image_size) if len(shape) == 4 else _layer(names[0])
        if not stages or (stage or current) != current:
            stages.append([])
            current = stage
        stages[-1] += names
    return stages


def _blocks(trunk: fx.GraphModule, last: fx.Node) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Parameters, and the shape that they end with, between points where one tensor is all."""
    nodes = list(trunk.graph.nodes)
    nodes = nodes[: nodes.index(last) + 1]
    place = {node: i for i, node in enumerate(nodes)}
    layers = dict(trunk.named_modules())
    parameters = {name for name, _ in trunk.named_parameters()}
    of_image: set[fx.Node] = set()
    live: dict[fx.Node, int] = {}  # tensors made of the image, and where they are used last
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
        live = {each: use for each, use in live.items() if use > i or each is node}
        if live.keys() == {node}:
            yield names, shape
            names = []


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Of the tensor that `node` gives, as `ShapeProp` found it; empty if it gives none."""
    made = node.meta.get("tensor_meta")
    return tuple(getattr(made, "shape", ()))


def _resolution(shape: tuple[int, ...], image_size: int) -> str | None:
    """Halvings of the image's side, for square maps (1, C, s, s) or (1, s, s, C)."""
    for side, other in ((shape[2], shape[3]), (shape[1], shape[2])):
        if side == other:
            return f"{math.log2(image_size / side):.0f} halvings"
    return None


def _layer(name: str) -> str | None:
    """The parameter's name up to its first number, such as `encoder.layers.encoder_layer_3`."""
    found = _NUMBERED.match(name)
    return found and found[1]
