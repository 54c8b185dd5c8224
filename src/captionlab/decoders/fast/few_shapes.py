"""Products of bf16 on a CPU in few shapes.

oneDNN compiles a product for each number of rows, in up to 12 ms, and keeps 1,024 of them, of 1 MB
each. Nearly every batch has another number of words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_UNIT = 128


def in_few_shapes(rows: Tensor) -> Tensor:
    """Rows (M, D) of a product in bf16 on a CPU, and zeros up to a multiple; others as they are."""
    is_bf16 = rows.dtype is torch.bfloat16 or torch.is_autocast_enabled("cpu")
    if not is_bf16 or rows.device.type != "cpu" or torch.compiler.is_compiling():
        return rows
    return functional.pad(rows, (0, 0, 0, -len(rows) % _UNIT))
