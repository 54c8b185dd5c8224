"""A weight used at every step gets the gradient that autograd would sum up."""

from __future__ import annotations

import torch
from torch import Tensor

from captionlab.decoders.fast.step_linear import one_gradient_per_weight, step_linear


def test_one_product_gives_the_gradients_of_autograd() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    bias = torch.randn(5, dtype=torch.double, requires_grad=True)
    start = torch.randn(3, 4, dtype=torch.double, requires_grad=True)

    def gradients() -> list[Tensor]:
        hidden, total = start, torch.zeros((), dtype=torch.double)
        for _ in range(4):
            output = step_linear(hidden, weight, bias).tanh()
            hidden = output[:, :4]
            total = total + output.square().sum()
        return list(torch.autograd.grad(total, [weight, bias, start]))

    plain = gradients()
    with one_gradient_per_weight():
        torch.testing.assert_close(gradients(), plain)
