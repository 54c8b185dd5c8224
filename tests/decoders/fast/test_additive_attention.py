"""Attention by compiled kernels is attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from captionlab.decoders.fast.additive_attention import (
    additive_attention,
    exponential,
    plain_additive_attention,
)
from captionlab.decoders.fast.step_linear import one_gradient_per_weight

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def fast(keys: Tensor, values: Tensor, query: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
    return additive_attention(exponential(keys), values, query, energy)


def inputs(num_images: int = 5, dtype: torch.dtype = torch.float) -> list[Tensor]:
    """Keys, values, query and w; 6 positions, 3 queries."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((num_images, 6, 4), (num_images, 6, 7), (num_images, 3, 4), (4,))
    return [
        (2 * torch.randn(shape, dtype=dtype, generator=generator)).requires_grad_()
        for shape in shapes
    ]


def gradients(attention: Attention, given: list[Tensor]) -> tuple[Tensor, ...]:
    """Of something in which context and weights both count."""
    context, weights = attention(*given)
    return torch.autograd.grad(context.square().sum() + weights.cos().sum(), given)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_any_number_of_threads_gives_the_plain_formula(
    num_threads: int, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(num_threads)
    given = inputs()
    torch.testing.assert_close(fast(*given), plain_additive_attention(*given), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        gradients(fast, given), gradients(plain_additive_attention, given), atol=1e-5, rtol=1e-5
    )
    with torch.no_grad():
        torch.testing.assert_close(
            fast(*given), plain_additive_attention(*given), atol=1e-5, rtol=1e-5
        )


def test_the_formula_for_gpus_and_compilers_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs()
    expected = gradients(fast, given)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(gradients(fast, given), expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_small_differences() -> None:
    given = inputs(2, torch.double)
    assert torch.autograd.gradcheck(fast, given)


def test_gradients_over_steps_of_ever_fewer_images_and_captions() -> None:
    keys, values, query, energy = given = inputs(3, torch.double)

    def steps(attention: Attention) -> tuple[Tensor, ...]:
        """Each step's query comes from the context before."""
        last = torch.zeros((), dtype=torch.double)
        total = torch.zeros((), dtype=torch.double)
        for images, captions in ((3, 3), (3, 2), (1, 1)):
            query_t = query[:images, :captions] + last
            context, weights = attention(keys, values, query_t, energy)
            last = context.mean().tanh()
            total = total + context.square().sum() + weights[..., 0].sum()
        return torch.autograd.grad(total, given)

    expected = steps(lambda k, v, q, w: plain_additive_attention(k[: len(q)], v[: len(q)], q, w))
    exponentials = exponential(keys)
    with one_gradient_per_weight():
        together = steps(lambda k, v, q, w: additive_attention(exponentials, v, q, w))
    torch.testing.assert_close(together, expected)


def test_a_second_backward_pass_gives_the_gradients_again() -> None:
    given = inputs()
    context, _ = fast(*given)
    first = torch.autograd.grad(context.sum(), given, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(context.sum(), given), first)


def test_values_that_need_no_gradient_get_none() -> None:
    keys, values, query, energy = inputs()
    values = values.detach()
    context, _ = fast(keys, values, query, energy)
    context.sum().backward()
    assert keys.grad is not None
    assert values.grad is None


def test_weights_are_float32_under_autocast() -> None:
    keys, values, query, energy = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        half = [tensor.to(torch.bfloat16) for tensor in (keys, values, query)]
        context, weights = fast(*half, energy)
    assert context.dtype == torch.bfloat16
    assert weights.dtype == torch.float
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 3))
    expected, _ = plain_additive_attention(keys, values, query, energy)
    torch.testing.assert_close(context.float(), expected, atol=0.1, rtol=0.1)
    context.float().square().sum().backward()
    assert all(tensor.grad is not None for tensor in (keys, values, query, energy))


def test_very_large_numbers_make_no_nan() -> None:
    keys, values, query, energy = (tensor.detach() for tensor in inputs())
    given = [(1e4 * keys).requires_grad_(), values, (-1e4 * query).requires_grad_(), energy]
    context, weights = fast(*given)
    context.sum().backward()
    for tensor in (context, weights, given[0].grad, given[2].grad):
        assert bool(torch.isfinite(tensor).all())
