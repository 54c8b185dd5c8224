"""Random networks whose features still tell images apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LINEAR = (nn.Conv2d, nn.Linear)


@torch.no_grad()
def standardise_layers(trunk: nn.Module, images: Tensor) -> None:
    """Give every random layer outputs of mean 0 and variance 1 per channel on `images`.

    Without it a deep random network gives all images nearly the same features. Where there is
    batch norm, its statistics are set; elsewhere weights and biases are rescaled (not those inside
    attention, which the norms around it keep in range).

    Source: Krähenbühl et al. 2016, sec. 3.1; Mishkin & Matas 2016.
    """
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this one batch
        norm.train()
    linear = [m for m in trunk.modules() if isinstance(m, _LINEAR) and m.bias is not None]
    layers = [] if norms else linear
    hooks = [layer.register_forward_hook(_standardise) for layer in layers]
    trunk(images.contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()


def _standardise(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Forward hook: rescale `layer` so that `output` has mean 0 and variance 1 per channel."""
    assert isinstance(layer, _LINEAR)
    assert layer.bias is not None
    channel = 1 if isinstance(layer, nn.Conv2d) else output.dim() - 1
    dims = [dim for dim in range(output.dim()) if dim != channel]
    mean = output.mean(dims, keepdim=True)
    std = output.std(dims, keepdim=True).clamp_min(1e-5)
    layer.bias.sub_(mean.flatten()).div_(std.flatten())
    layer.weight.div_(std.view(-1, *[1] * (layer.weight.dim() - 1)))
    return (output - mean) / std


def scale_residual_branches(model: nn.Module) -> None:
    """Scale a random network's L residual branches by L ** -0.5, so that depth keeps the image.

    Source: Hayou et al. 2021 (Stable ResNet), sec. 3.
    """
    # Late: torchvision takes a second to import, and options are read at every start.
    from torchvision.models.efficientnet import FusedMBConv, MBConv
    from torchvision.models.resnet import BasicBlock, Bottleneck

    last: list[Any] = []  # the last batch norm of each branch
    for block in model.modules():
        if isinstance(block, BasicBlock):
            last.append(block.bn2)
        elif isinstance(block, Bottleneck):
            last.append(block.bn3)
        elif isinstance(block, MBConv | FusedMBConv) and block.use_res_connect:
            last.append(block.block[-1][1])
    for norm in last:
        nn.init.constant_(norm.weight, len(last) ** -0.5)
