"""A compiled training step is one graph, and the same step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from captionlab.decoders import Decoder
from captionlab.errors import ConfigError
from captionlab.training.compilation import compile_decoder, compile_errors, pad_for_graph
from captionlab.types import PAD_ID
from tests.support.decoders import DECODERS, MakeDecoder, captions, features

# Every conditioning, and every decoder with a way of its own.
KINDS = [pair for pair in DECODERS if pair[0] == "gru" or pair[1] == "built_in"]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No test's graphs count towards another's limit, nor do its settings stay."""
    with torch._dynamo.config.patch():
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()


def step(decoder: Decoder, num_images: int, num_captions: int = 2) -> list[torch.Tensor]:
    """Loss and gradients."""
    tokens = captions(num_images, num_captions)[:, :, :6]
    logits, targets, *_ = decoder(features(num_images), tokens)
    loss = functional.cross_entropy(logits, targets)
    return [loss, *torch.autograd.grad(loss, list(decoder.parameters()))]


@pytest.mark.parametrize(("decoder", "conditioning"), KINDS)
def test_a_step_is_one_graph_and_gives_the_same(
    make_decoder: MakeDecoder, decoder: str, conditioning: str
) -> None:
    eager, compiled = (make_decoder(decoder, conditioning) for _ in range(2))
    compile_decoder(compiled, backend="eager")  # raises at a break
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    torch.testing.assert_close(step(compiled, 3), step(eager, 3), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_machine_code_gives_the_same(make_decoder: MakeDecoder) -> None:
    eager, compiled = (make_decoder("rnn", "attention") for _ in range(2))
    compile_decoder(compiled)
    torch.testing.assert_close(step(compiled, 2), step(eager, 2), atol=1e-5, rtol=1e-5)


def test_a_batch_of_another_size_is_compiled_too(make_decoder: MakeDecoder) -> None:
    eager, compiled = (make_decoder("rnn", "attention") for _ in range(2))
    compile_decoder(compiled, backend="eager")
    for num_images, num_captions in ((4, 2), (3, 3)):
        torch.testing.assert_close(
            step(compiled, num_images, num_captions), step(eager, num_images, num_captions)
        )


def test_padding_brings_lengths_together() -> None:
    for length, expected in ((2, 9), (9, 9), (10, 17), (17, 17)):
        padded = pad_for_graph(torch.ones(1, 2, length, dtype=torch.long))
        assert padded.shape == (1, 2, expected)
        assert int((padded != PAD_ID).sum()) == 2 * length


def test_a_compiler_that_fails_is_compile_errors(make_decoder: MakeDecoder) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no compiler here")

    decoder = make_decoder("rnn", "merge")
    compile_decoder(decoder, backend=fails)
    expected = r"^compile=true, but torch.compile failed: .*no compiler here.*compile=false\.$"
    with pytest.raises(ConfigError, match=expected), compile_errors():
        step(decoder, 2)
