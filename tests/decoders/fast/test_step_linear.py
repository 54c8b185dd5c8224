"""A weight used at every step gets the gradient that autograd would sum up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

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


def test_under_autocast_it_is_the_linear_map_in_bf16() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    inputs = torch.randn(3, 2, 4, requires_grad=True).mT.contiguous().mT  # rows that do not adjoin
    with torch.autocast("cpu", torch.bfloat16):
        plain = functional.linear(inputs, weight, bias)
        with one_gradient_per_weight():
            fast = step_linear(inputs, weight, bias) + step_linear(inputs, weight, bias)
    assert fast.dtype == torch.bfloat16
    # The plain one may add its bias apart, after rounding the product to 8 bits.
    torch.testing.assert_close(fast, 2 * plain, atol=0.05, rtol=0.02)
    given = [inputs, weight, bias]
    expected = torch.autograd.grad(2 * plain.float().sum(), given)
    # Sums of bf16 numbers in another order: 8 bits.
    torch.testing.assert_close(
        torch.autograd.grad(fast.float().sum(), given), expected, atol=0.05, rtol=0.02
    )
