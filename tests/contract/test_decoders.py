"""What every decoder keeps, with every conditioning."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder, DecoderState, TeacherForced
from captionlab.decoders.fast import few_shapes, teacher_forcing
from captionlab.types import PAD_ID, START_ID, ImageFeatures
from tests.support.decoders import CONDITIONED, DECODERS, MakeDecoder, captions, features
from tests.support.parts import part

every = pytest.mark.parametrize(("decoder", "conditioning"), DECODERS)


def stepwise_log_probs(
    decoder: Decoder, images: ImageFeatures, tokens: Tensor
) -> dict[tuple[int, int, int], Tensor]:
    """Log-probabilities (V,) of the token after (image, caption, position), by single steps."""
    log_probs_at = {}
    for i, j in product(range(tokens.shape[0]), range(tokens.shape[1])):
        state = decoder.start(images.select(torch.tensor([i])))
        length = int((tokens[i, j] != PAD_ID).sum())
        for t in range(length - 1):
            log_probs, state = decoder.step(tokens[i, j, t : t + 1], state)
            log_probs_at[i, j, t] = log_probs[0]
    return log_probs_at


def tensors(state: DecoderState) -> list[Tensor]:
    """All that a state holds."""
    held: list[Tensor] = [*state.memory]
    for value in vars(state.image).values():
        held += value if isinstance(value, tuple) else [value]
    return held


@every
def test_stepping_equals_teacher_forcing(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    images, tokens = features(3), captions(3, 4)
    with torch.no_grad():
        predictions = model(images, tokens)
        steps = stepwise_log_probs(model, images, tokens)
    in_order = predictions.captions.argsort(stable=True)
    words = [tokens[i, j, t + 1] for i, j, t in sorted(steps)]
    assert predictions.targets[in_order].tolist() == words
    assert predictions.captions[in_order].tolist() == [4 * i + j for i, j, _ in sorted(steps)]
    torch.testing.assert_close(  # fused kernels and other batch sizes sum in another order
        predictions.logits.log_softmax(-1)[in_order],
        torch.stack([steps[key] for key in sorted(steps)]),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("way", ["_packed", "_padded"])  # the latter on GPUs
@pytest.mark.parametrize(("decoder", "conditioning"), CONDITIONED)
def test_fast_teacher_forcing_equals_the_plain_one(
    make_decoder: MakeDecoder,
    decoder: str,
    conditioning: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teacher_forcing, "_packed", getattr(teacher_forcing, way))
    model = make_decoder(decoder, conditioning).train()
    images, tokens = features(4), captions(4, 3)

    def result(predictions: TeacherForced) -> dict[str, Any]:
        """All that counts, tokens in the order of captions."""
        order = predictions.captions.argsort(stable=True)
        loss = functional.cross_entropy(predictions.logits, predictions.targets)
        attention = predictions.attention
        if attention is not None:
            loss = loss + attention.square().sum()
        return {
            "loss": loss,
            "logits": predictions.logits[order],
            "targets": predictions.targets[order],
            "captions": predictions.captions[order],
            "attention": None if attention is None else attention[order],
            "gradients": torch.autograd.grad(loss, list(model.parameters())),
        }

    # The sums over steps and over the vocabulary's rows are taken in another order.
    torch.testing.assert_close(
        result(model(images, tokens)),
        result(model.forward_plain(images, tokens)),
        atol=2e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("way", ["par_inject", "merge", "attention"])
def test_in_bf16_rows_that_fill_a_product_up_change_nothing(
    make_decoder: MakeDecoder, cell: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_decoder(cell, way).train()
    images, tokens = features(5), captions(5, 3)  # 15 captions
    losses, gradients = [], []
    for unit in (1, 16):
        for module in (teacher_forcing, few_shapes):
            monkeypatch.setattr(module, "_UNIT", unit)
        with torch.autocast("cpu", torch.bfloat16):
            predictions = model(images, tokens)
        words = tokens[:, :, 1:][tokens[:, :, 1:] != PAD_ID]
        assert torch.equal(predictions.targets.sort()[0], words.sort()[0])
        losses.append(functional.cross_entropy(predictions.logits.float(), predictions.targets))
        gradients.append(torch.autograd.grad(losses[-1], list(model.parameters())))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=0)
    for exact, filled in zip(*gradients, strict=True):
        assert (filled - exact).norm() <= 0.03 * exact.norm() + 1e-6


@every
def test_a_decoder_is_as_its_class_says(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    kind, _ = part("decoder", decoder)
    way = part("conditioning", conditioning)[0] if kind.takes_conditioning else kind
    assert (model.needs_grid, model.attends) == (way.needs_grid, way.attends)
    images, tokens = features(3), captions(3, 4)
    with torch.no_grad():
        predictions = model(images, tokens)
        assert (predictions.attention is not None) == way.attends
        if way.attends:
            assert predictions.attention.shape == (len(predictions.targets), 6)
            sums = predictions.attention.sum(1)
            torch.testing.assert_close(sums, torch.ones_like(sums))
        other = ImageFeatures(features(3, seed=9).grid, images.pooled)
        reads = not torch.allclose(model(other, tokens).logits, predictions.logits, atol=1e-4)
        assert reads == way.needs_grid
        if not way.needs_grid:
            without = ImageFeatures(images.grid[:, :0], images.pooled)
            torch.testing.assert_close(model(without, tokens).logits, predictions.logits)


@every
def test_padding_and_other_images_change_nothing(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    images, tokens = features(3), captions(3, 2)
    padded = torch.cat([tokens, torch.full((3, 2, 4), PAD_ID)], dim=2)

    def loss(images: ImageFeatures, tokens: Tensor) -> Tensor:
        logits, targets, *_ = model(images, tokens)
        return functional.cross_entropy(logits, targets, reduction="sum")

    torch.testing.assert_close(loss(images, tokens), loss(images, padded))
    apart = sum(loss(images.select(torch.tensor([i])), tokens[i : i + 1]) for i in range(3))
    torch.testing.assert_close(loss(images, tokens), apart, rtol=1e-5, atol=1e-4)
    assert loss(images.select(torch.tensor([1])), tokens[1:2]) > 0


@every
def test_a_step_leaves_the_state_as_it_was(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    with torch.inference_mode():
        state = model.start(features(2))
        before = [tensor.clone() for tensor in tensors(state)]
        first, _ = model.step(torch.tensor([START_ID, START_ID]), state)
        again, _ = model.step(torch.tensor([START_ID, START_ID]), state)
    torch.testing.assert_close(first, again)
    for old, new in zip(before, tensors(state), strict=True):
        assert torch.equal(old, new)


@every
def test_selected_rows_go_on_as_they_would_have(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    rows, images = torch.tensor([5, 4, 1, 1]), torch.tensor([2, 0])  # two captions of each image
    with torch.inference_mode():
        twice = torch.arange(3).repeat_interleave(2)
        _, state = model.step(
            torch.full((6,), START_ID), model.select(model.start(features(3)), twice)
        )
        _, state = model.step(torch.arange(4, 10), state)
        word = torch.tensor([9, 8, 7, 6, 5, 4])
        expected, _ = model.step(word, state)
        selected, _ = model.step(word[rows], model.select(state, rows, images))
    torch.testing.assert_close(selected, expected[rows], atol=1e-5, rtol=1e-5)


@every
def test_steps_give_float32_probabilities_under_autocast(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning).eval()
    token = torch.tensor([START_ID] * 2)
    with torch.inference_mode():
        expected, _ = model.step(token, model.start(features(2)))
        with torch.autocast("cpu", torch.bfloat16):
            log_probs, _ = model.step(token, model.start(features(2)))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2))
    torch.testing.assert_close(log_probs.exp(), expected.exp(), atol=0.05, rtol=0)  # 8 bits


@every
def test_one_batch_can_be_learned_by_heart(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    model = make_decoder(decoder, conditioning)
    images, tokens = features(4), captions(4, 1, seed=5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(600):
        logits, targets, *_ = model(images, tokens)
        loss = functional.cross_entropy(logits, targets)
        if loss < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
