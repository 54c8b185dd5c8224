"""What every cell and conditioning keeps."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from captionlab.decoders import RecurrentDecoder
from captionlab.decoders.step_linear import one_gradient_per_weight, step_linear
from captionlab.types import END_ID, PAD_ID, START_ID, ImageFeatures
from tests.conftest import CELLS, CONDITIONINGS, MakeDecoder, features

EVERY = [
    *product(CELLS, CONDITIONINGS, (1, 2)),
    *product(("transformer", "transformer_learned"), ("built_in",), (1, 2)),
]
every = pytest.mark.parametrize(("cell", "conditioning", "num_layers"), EVERY)


def captions(num_images: int, num_captions: int, seed: int = 2) -> torch.Tensor:
    """Random captions of 1 to 6 words; the last image lacks its last caption."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((num_images, num_captions, 9), PAD_ID)
    for i, j in product(range(num_images), range(num_captions)):
        if (i, j) == (num_images - 1, num_captions - 1) and num_captions > 1:
            continue
        length = int(torch.randint(1, 7, (), generator=generator))
        words = torch.randint(4, 11, (length,), generator=generator)
        tokens[i, j, : length + 2] = torch.cat(
            [torch.tensor([START_ID]), words, torch.tensor([END_ID])]
        )
    return tokens


def stepwise_log_probs(
    decoder: RecurrentDecoder, images: ImageFeatures, tokens: torch.Tensor
) -> dict[tuple[int, int, int], torch.Tensor]:
    """Log-probabilities (V,) of the token after (image, caption, position), by single steps."""
    found = {}
    for i, j in product(range(tokens.shape[0]), range(tokens.shape[1])):
        state = decoder.start(images.select(torch.tensor([i])))
        length = int((tokens[i, j] != PAD_ID).sum())
        for t in range(length - 1):
            log_probs, state = decoder.step(tokens[i, j, t : t + 1], state)
            found[i, j, t] = log_probs[0]
    return found


@every
def test_stepping_equals_teacher_forcing(
    make_decoder: MakeDecoder, cell: str, conditioning: str, num_layers: int
) -> None:
    decoder = make_decoder(cell, conditioning, num_layers).eval()
    images, tokens = features(3), captions(3, 4)
    with torch.no_grad():
        told = decoder(images, tokens)
        steps = stepwise_log_probs(decoder, images, tokens)
    in_order = told.captions.argsort(stable=True)
    assert told.targets[in_order].tolist() == [tokens[i, j, t + 1] for i, j, t in sorted(steps)]
    assert told.captions[in_order].tolist() == [4 * i + j for i, j, _ in sorted(steps)]
    torch.testing.assert_close(
        told.logits.log_softmax(-1)[in_order],
        torch.stack([steps[key] for key in sorted(steps)]),
        atol=1e-5,
        rtol=1e-5,
    )
    if "attention" in conditioning:
        assert told.attention.shape == (len(steps), 6)
        torch.testing.assert_close(told.attention.sum(1), torch.ones(len(steps)))
    else:
        assert told.attention is None


@every
def test_padding_and_other_images_change_nothing(
    make_decoder: MakeDecoder, cell: str, conditioning: str, num_layers: int
) -> None:
    decoder = make_decoder(cell, conditioning, num_layers).eval()
    images, tokens = features(3), captions(3, 2)
    padded = torch.cat([tokens, torch.full((3, 2, 4), PAD_ID)], dim=2)
    one = images.select(torch.tensor([1]))

    def loss(part: ImageFeatures, told: torch.Tensor) -> torch.Tensor:
        logits, targets, *_ = decoder(part, told)
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

    torch.testing.assert_close(loss(images, tokens), loss(images, padded))
    apart = sum(loss(images.select(torch.tensor([i])), tokens[i : i + 1]) for i in range(3))
    torch.testing.assert_close(loss(images, tokens), apart, rtol=1e-5, atol=1e-4)
    assert loss(one, tokens[1:2]) > 0


@every
def test_a_step_leaves_the_state_as_it_was(
    make_decoder: MakeDecoder, cell: str, conditioning: str, num_layers: int
) -> None:
    decoder = make_decoder(cell, conditioning, num_layers).eval()
    with torch.inference_mode():
        state = decoder.start(features(2))
        before = [part.clone() for part in (*state.image, *state.memory)]
        first, _ = decoder.step(torch.tensor([START_ID, START_ID]), state)
        again, _ = decoder.step(torch.tensor([START_ID, START_ID]), state)
    assert torch.equal(first, again)
    for old, new in zip(before, (*state.image, *state.memory), strict=True):
        assert torch.equal(old, new)


@every
def test_log_probabilities_sum_to_one(
    make_decoder: MakeDecoder, cell: str, conditioning: str, num_layers: int
) -> None:
    decoder = make_decoder(cell, conditioning, num_layers).eval()
    with torch.inference_mode():
        log_probs, _ = decoder.step(torch.tensor([START_ID] * 2), decoder.start(features(2)))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2))


@every
def test_one_batch_can_be_learned_by_heart(
    make_decoder: MakeDecoder, cell: str, conditioning: str, num_layers: int
) -> None:
    decoder = make_decoder(cell, conditioning, num_layers)
    images, tokens = features(4), captions(4, 1, seed=5)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(600):
        logits, targets, *_ = decoder(images, tokens)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        if loss < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_gradients_made_at_once_equal_those_of_autograd() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    bias = torch.randn(5, dtype=torch.double, requires_grad=True)
    start = torch.randn(3, 4, dtype=torch.double, requires_grad=True)

    def run() -> list[torch.Tensor]:
        hidden, total = start, torch.zeros((), dtype=torch.double)
        for _ in range(4):
            made = step_linear(hidden, weight, bias).tanh()
            hidden = made[:, :4]
            total = total + made.square().sum()
        return list(torch.autograd.grad(total, [weight, bias, start]))

    plain = run()
    with one_gradient_per_weight():
        at_once = run()
    for one, other in zip(plain, at_once, strict=True):
        torch.testing.assert_close(one, other)
