"""What every objective keeps."""

from __future__ import annotations

import pytest
import torch

from captionlab.objectives import CrossEntropy, Objective
from captionlab.types import CaptionBatch
from tests.support.decoders import OWN_WAYS, WORDS, MakeDecoder, captions, features
from tests.support.parts import names, part

REFERENCES = {"x": ["a b c", "a c"], "y": ["d e", "f"], "z": ["g a", "b b c"]}
every = pytest.mark.parametrize("name", names("objective"))


def shipped(name: str) -> Objective:
    """An objective as its configuration has it."""
    kind, options = part("objective", name, vocabulary=WORDS, references=REFERENCES)
    objective: Objective = kind(**options)
    return objective


def batch() -> CaptionBatch:
    return CaptionBatch(("x", "y", "z"), features(3), captions(3, 2))


@every
def test_a_loss_is_a_number_that_every_weight_can_lower(
    make_decoder: MakeDecoder, name: str
) -> None:
    torch.manual_seed(0)
    decoder = make_decoder("lstm", "attention").train()
    loss, extra = shipped(name)(decoder, batch(), 0.5)
    loss.backward()
    assert loss.shape == ()
    assert all(isinstance(value, float) for value in extra.values())
    assert decoder.training
    for parameter, weight in decoder.named_parameters():
        assert weight.grad is not None, parameter
        assert bool(torch.isfinite(weight.grad).all()), parameter
        assert bool(weight.grad.any()), parameter


@every
def test_validation_is_by_cross_entropy(make_decoder: MakeDecoder, name: str) -> None:
    decoder = make_decoder().eval()
    expected, _ = CrossEntropy(0.0)(decoder, batch(), 0.0)
    torch.testing.assert_close(shipped(name).validate(decoder, batch()), expected)


@every
def test_an_objective_is_as_its_class_says(make_decoder: MakeDecoder, name: str) -> None:
    kind, options = part("objective", name)
    decoder = make_decoder(*OWN_WAYS[0]).train()
    if not decoder.attends and kind.needs_attention(options):
        with pytest.raises(ValueError, match="needs a decoder that attends"):
            shipped(name)(decoder, batch(), 0.5)
    else:
        loss, _ = shipped(name)(decoder, batch(), 0.5)
        assert bool(torch.isfinite(loss))


@every
def test_what_is_compilable_never_steps(
    make_decoder: MakeDecoder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, steps = make_decoder().train(), []
    start = decoder.start
    monkeypatch.setattr(decoder, "start", lambda images: (steps.append(1), start(images))[1])
    shipped(name)(decoder, batch(), 0.5)
    assert (steps == []) == shipped(name).compilable
