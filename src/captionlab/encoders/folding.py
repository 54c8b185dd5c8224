"""A frozen network in fewer layers: convolutions that do what follows them before they write.

At bf16's rate of products, to read and write maps once more for each addition and activation takes
nearly as long as all convolutions of a ResNet-50.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from captionlab.encoders.stages import shape_of

# By oneDNN's names: what each does to a map, which it may modify, and its bounds there.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
    "none": (lambda maps: maps, []),
    "relu": (torch.relu_, []),
    "hardtanh": (functional.relu6, [0.0, 6.0]),
    "swish": (functional.silu, []),
    "hardswish": (functional.hardswish, []),
}
_NAMES = {
    nn.ReLU: "relu",
    functional.relu: "relu",
    nn.ReLU6: "hardtanh",
    functional.relu6: "hardtanh",
    nn.SiLU: "swish",
    nn.Hardswish: "hardswish",
}


def fold_layers(trunk: fx.GraphModule) -> fx.GraphModule:
    """Fold what follows convolutions into them: batch norms, residuals and activations.

    Parameters keep their names. On a CPU in bf16, where no gradient is asked for, a map is then
    rounded once, not after each layer.

    Args:
        trunk: frozen, in evaluation mode, with `ShapeProp`'s shapes on its nodes.

    Returns:
        A network that has the layers of `trunk`, which is modified.
    """
    trunk = cast(fx.GraphModule, fuse(trunk, inplace=True, no_trace=True))
    graph, layers = trunk.graph, dict(trunk.named_modules())
    before: set[fx.Node] = set()
    for node in list(graph.nodes):
        before.add(node)
        layer = layers.get(str(node.target)) if node.op == "call_module" else None
        if not _is_plain(layer):
            continue
        last, residual, activation = node, None, "none"
        user = _only_user(node)
        if user is not None and user.target is operator.add:
            other = next((i for i in user.all_input_nodes if i is not node), None)
            if other in before and shape_of(other) == shape_of(node):
                last, residual, user = user, other, _only_user(user)
        name = None if user is None else _NAMES.get(_kind(user, layers))
        if user is not None and name is not None:
            last, activation = user, name
        with graph.inserting_before(node):
            parameters = [
                graph.get_attr(f"{node.target}.{name}") for name, _ in layer.named_parameters()
            ]
            names = ("stride", "padding", "dilation", "groups")
            geometry = {name: getattr(layer, name) for name in names}
            arguments = (node.args[0], parameters, geometry, residual, activation)
            joined = graph.call_function(convolve, arguments)
        joined.meta = dict(last.meta)
        before.add(joined)
        last.replace_all_uses_with(joined)
    graph.eliminate_dead_code()
    trunk.recompile()
    return trunk


def convolve(
    maps: Tensor,
    parameters: Sequence[Tensor],
    geometry: Mapping[str, Any],
    residual: Tensor | None,
    activation: str,
) -> Tensor:
    """An activation of a convolution, to which a residual is added first.

    Args:
        maps: (B, C, rows, columns).
        parameters: weight, and bias where there is one.
        geometry: stride, padding, dilation and groups.
        residual: of the convolution's shape.
        activation: by oneDNN's name.
    """
    weight, bias = parameters[0], parameters[1] if len(parameters) > 1 else None
    function, bounds = _ACTIVATIONS[activation]
    if not _joins(maps):
        convolved = functional.conv2d(maps, weight, bias, **geometry)
        if residual is not None:
            convolved += residual
        return function(convolved)
    # Inductor's operator: nothing else in torch tells oneDNN what follows a convolution.
    joined: Any = torch.ops.mkldnn._convolution_pointwise
    maps, layer = maps.bfloat16(), [None if t is None else t.bfloat16() for t in (weight, bias)]
    if residual is None:
        made = joined(maps, *layer, **geometry, attr=activation, scalars=bounds, algorithm="")
    else:
        last = None if activation == "none" else activation
        after = {"unary_attr": last, "unary_scalars": bounds, "unary_algorithm": ""}
        addition = {"binary_attr": "add", "alpha": 1.0}
        made = joined.binary(maps, residual.bfloat16(), *layer, **geometry, **addition, **after)
    return cast(Tensor, made)


def _joins(maps: Tensor) -> bool:
    """Whether oneDNN's joined layers, which have no gradient, are made for such an input."""
    return (
        maps.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _is_plain(layer: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution with zeros around its map, whose number is stated."""
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _kind(node: fx.Node, layers: Mapping[str, nn.Module]) -> Any:
    """The function that a node calls, or the class of its module."""
    return type(layers[str(node.target)]) if node.op == "call_module" else node.target
