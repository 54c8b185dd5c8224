"""Random networks whose features still tell images apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_LINEAR = (nn.Conv2d, nn.Linear)


@torch.no_grad()
def standardise_layers(trunk: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Give every random layer outputs of mean 0 and variance 1 per channel on `images`.

    Without it a deep random network gives all images nearly the same features. Where there is
    batch norm, its statistics are set; elsewhere weights and biases are rescaled (not those inside
    attention, which the norms around it keep in range).

    Returns:
        What was fitted, for `restore_layers`: float32 (C,) per layer and statistic, on the CPU.

    Source: Krähenbühl et al. 2016, sec. 3.1; Mishkin & Matas 2016.
    """
    norms = {n: m for n, m in trunk.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for norm in norms.values():
        norm.momentum = 1.0  # the statistics of this one batch
        norm.train()
    fitted: dict[str, Tensor] = {}
    linear = {} if norms else _linear_layers(trunk)
    hooks = [
        layer.register_forward_hook(partial(_standardise, fitted, name))
        for name, layer in linear.items()
    ]
    trunk(images.contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        fitted |= {f"{name}.mean": norm.running_mean, f"{name}.var": norm.running_var}
    return {name: values.detach().cpu().clone() for name, values in fitted.items()}


@torch.no_grad()
def restore_layers(trunk: nn.Module, fitted: Mapping[str, Tensor]) -> None:
    """Do what `standardise_layers` did to an equal network, without its images."""
    for name, layer in trunk.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(fitted[f"{name}.mean"])
            layer.running_var.copy_(fitted[f"{name}.var"])
        elif f"{name}.std" in fitted:
            assert isinstance(layer, _LINEAR)
            device = layer.weight.device
            _rescale(layer, fitted[f"{name}.mean"].to(device), fitted[f"{name}.std"].to(device))


def _linear_layers(trunk: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {
        name: layer
        for name, layer in trunk.named_modules()
        if isinstance(layer, _LINEAR) and layer.bias is not None
    }


def _standardise(
    fitted: dict[str, Tensor],
    name: str,
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    """Forward hook: rescale `layer` so that `output` has mean 0 and variance 1 per channel."""
    assert isinstance(layer, _LINEAR)
    channel = 1 if isinstance(layer, nn.Conv2d) else output.dim() - 1
    dims = [dim for dim in range(output.dim()) if dim != channel]
    mean = output.mean(dims, keepdim=True)
    std = output.std(dims, keepdim=True).clamp_min(1e-5)
    fitted |= {f"{name}.mean": mean.flatten(), f"{name}.std": std.flatten()}
    _rescale(layer, mean.flatten(), std.flatten())
    return (output - mean) / std


def _rescale(layer: nn.Conv2d | nn.Linear, mean: Tensor, std: Tensor) -> None:
    assert layer.bias is not None
    layer.bias.sub_(mean).div_(std)
    layer.weight.div_(std.view(-1, *[1] * (layer.weight.dim() - 1)))


def scale_residual_branches(model: nn.Module) -> None:
    """Scale a random network's L residual branches by L ** -0.5, so that deep features still vary.

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
