"""`torch.nn.Dropout`, faster on a CPU, where torch draws one element at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_STEPS = 2**16  # one random 16-bit number per element


class Dropout(nn.Dropout):
    """`dropout` as a module."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)


def dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """In training, zero elements with probability `p` and scale the others by 1 / (1 - p).

    On a CPU `p` is rounded to a multiple of 1/65536.

    Source: Srivastava et al. 2014; scaled as torch does it.
    """
    dropped = round(p * _STEPS)
    has_own_way = inputs.device.type == "cpu" and not torch.compiler.is_compiling()
    if not training or not has_own_way or not 0 < dropped < _STEPS:
        return functional.dropout(inputs, p, training)
    outputs: Tensor = _Dropout.apply(inputs, dropped)
    return outputs


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, dropped: int) -> Tensor:
        size = inputs.numel()
        bits = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[:size].view(inputs.shape) >= dropped - _STEPS // 2
        ctx.save_for_backward(kept)
        ctx.scale = _STEPS / (_STEPS - dropped)
        return (inputs * kept).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (grad * kept).mul_(ctx.scale), None
