"""The stages of a network: the layers that work at one spatial resolution."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from torch import fx

_NUMBERED = re.compile(r"(.*?\D\d+)(\.|$)")


def find_stages(trunk: fx.GraphModule, last: fx.Node, image_size: int) -> list[list[str]]:
    """The parameters that `last` depends on, stage by stage, from the image on.

    A stage is the layers of one resolution, counted in halvings of the image's: ResNet's stem and
    its four layers, VGG's conv1 to conv5. A residual block is never divided and belongs to the
    resolution of its output. Where the network works on a sequence of patches, each of its
    numbered layers is a stage.

    Args:
        trunk: traced, with the shapes for one square image on its nodes.
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
    """Split the graph where a single tensor carries all that follows.

    Yields:
        Names of the parameters since the last such point, and the shape of that tensor.
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
            yield names, shape
            names = []


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
